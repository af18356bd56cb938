// Attention in the reference: head norms, rotation, the paged cache, and causal softmax attention over it.
#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/ref/ref_math.h"
#include "backend/ref/ref_ops.h"
#include "base/check.h"
#include "ops/rope.h"

namespace baize::ref {

int64_t RefOps::cache_offset(const Tensor& view, int group, int64_t seq, int64_t position, int64_t head) const {
  return host::cache_offset(input(), view, group, seq, position, head);
}

void RefOps::do_qk_norm_rope_store(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) {
  if (dry()) return;
  const auto& [heads, kv_heads, head_dim] = args.shape;
  std::vector<float> head(static_cast<size_t>(head_dim));
  std::vector<float> inv_freq;
  for (int64_t r = 0; r < input().rows; ++r) {
    const int64_t seq = input().row_seq.as<const int32_t>()[r];
    const int64_t position = input().positions.as<const int32_t>()[r];
    if (args.rope.present()) inv_freq = rope_frequencies(args.rope, input().kv_len.as<const int32_t>()[seq]);
    const float* row = qkv.as<const float>() + r * qkv.strides[0];
    for (int64_t h = 0; h < heads + kv_heads; ++h) {  // query heads, then key heads
      const bool is_query = h < heads;
      const Norm& norm = is_query ? args.q_norm : args.k_norm;
      std::copy_n(row + h * head_dim, head_dim, head.data());
      if (norm.present()) rms_norm(head.data(), norm, head_dim, head.data());
      if (args.rope.present()) rotate(args.rope, inv_freq, position, head.data());
      if (is_query) {
        std::copy_n(head.data(), head_dim, q.as<float>() + r * q.strides[0] + h * q.strides[1]);
        continue;
      }
      const int64_t at = cache_offset(kv.k, kv.group, seq, position, h - heads);
      for (int64_t i = 0; i < head_dim; ++i) store(kv.k, at + i, head[static_cast<size_t>(i)]);
    }
    const float* values = row + (heads + kv_heads) * head_dim;
    for (int64_t h = 0; h < kv_heads; ++h) {
      const int64_t at = cache_offset(kv.v, kv.group, seq, position, h);
      for (int64_t i = 0; i < head_dim; ++i) store(kv.v, at + i, values[h * head_dim + i]);
    }
  }
}

void RefOps::do_attention(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) {
  if (dry()) return;
  for (int64_t r = 0; r < input().rows; ++r) {
    for (int64_t h = 0; h < args.shape.heads; ++h) {
      const float* query = q.as<const float>() + r * q.strides[0] + h * q.strides[1];
      attend(args, r, h, query, kv, out.as<float>() + r * out.strides[0] + h * out.strides[1]);
    }
  }
}

void RefOps::attend(const AttnArgs& args, int64_t row, int64_t head, const float* query, const KvView& kv, float* out) {
  const int64_t seq = input().row_seq.as<const int32_t>()[row];
  const int64_t last = input().positions.as<const int32_t>()[row];
  const int64_t first = args.window > 0 ? std::max<int64_t>(0, last - args.window + 1) : 0;
  const int64_t kv_head = head / (args.shape.heads / args.shape.kv_heads);

  std::vector<float> weights(static_cast<size_t>(last - first + 1));  // scores, then their softmax
  float highest = -INFINITY;
  for (int64_t t = first; t <= last; ++t) {
    const int64_t at = cache_offset(kv.k, kv.group, seq, t, kv_head);
    double score = 0;
    for (int64_t i = 0; i < args.shape.head_dim; ++i) score += static_cast<double>(query[i]) * load(kv.k, at + i);
    float& weight = weights[static_cast<size_t>(t - first)];
    weight = static_cast<float>(score) * args.scale;
    if (args.softcap > 0) weight = args.softcap * std::tanh(weight / args.softcap);
    highest = std::max(highest, weight);
  }
  double total = 0;
  for (float& weight : weights) total += weight = std::exp(weight - highest);

  const int64_t v_dim = kv.v.shape[3];
  std::vector<double> sum(static_cast<size_t>(v_dim));
  for (int64_t t = first; t <= last; ++t) {
    const int64_t at = cache_offset(kv.v, kv.group, seq, t, kv_head);
    const double weight = weights[static_cast<size_t>(t - first)];
    for (int64_t i = 0; i < v_dim; ++i) sum[static_cast<size_t>(i)] += weight * load(kv.v, at + i);
  }
  for (int64_t i = 0; i < v_dim; ++i) out[i] = static_cast<float>(sum[static_cast<size_t>(i)] / total);
}

}  // namespace baize::ref
