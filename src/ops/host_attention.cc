// Attention in HostOps: every variant of preparing queries and keys, and of the softmax over the cache.
#include <algorithm>
#include <numeric>

#include "base/mutate.h"
#include "ops/host_math.h"
#include "ops/host_ops.h"
#include "ops/rope.h"

namespace baize {

namespace host {

void rotate(const Rope& rope, const std::vector<float>& inv_freq, int64_t position, float* head) {
  const auto pairs = static_cast<int64_t>(inv_freq.size());
  for (int64_t i = 0; i < pairs; ++i) {
    const double angle = static_cast<float>(position) * inv_freq[static_cast<size_t>(i)];
    const float c = static_cast<float>(std::cos(angle)) * rope.scale;
    const float s = static_cast<float>(std::sin(angle)) * rope.scale;
    float& a = head[rope.offset + (rope.interleaved ? 2 * i : i)];
    float& b = head[rope.offset + (rope.interleaved ? 2 * i + 1 : i + pairs)];
    const float turned = a * c - b * s;
    b = b * c + a * s;
    a = turned;
  }
}

int64_t cache_offset(const StepInput& input, const Tensor& view, int group, int64_t seq, int64_t position,
                     int64_t head) {
  const Tensor& table = input.block_tables[static_cast<size_t>(group)];
  const int64_t block = view.shape[1];
  const int64_t page = table.as<const int32_t>()[seq * table.strides[0] + position / block];
  BAIZE_CHECK(page >= 0 && page < view.shape[0]);
  return page * view.strides[0] + position % block * view.strides[1] + head * view.strides[2];
}

int64_t entry_offset(const StepInput& input, const KvView& view, int64_t seq, int64_t index) {
  if (view.stride == 0) return cache_offset(input, view.k, view.group, seq, index, 0);
  const Tensor& table = input.block_tables[static_cast<size_t>(view.group)];
  const int64_t block = ((index + 1) * view.stride - 1) / view.block;
  const int64_t page = table.as<const int32_t>()[seq * table.strides[0] + block];
  BAIZE_CHECK(page >= 0 && page < view.k.shape[0]);
  return page * view.k.strides[0] + (index - block * view.block / view.stride) * view.k.strides[1];
}

}  // namespace host

using host::row_of;

namespace {

float temperature_at(const Temperature& t, int64_t position) {
  if (t.scale == 0) return 1;
  const auto steps = static_cast<float>((position + t.offset) / t.length);
  return 1.0f + t.scale * std::log(1.0f + steps);
}

// One row's queries and keys: norm, rotation, the place they go to.
struct QkvRow {
  const StepInput& input;
  const QkvArgs& args;
  std::vector<float> inv_freq;
  int64_t seq = -1, position = 0;

  void enter(int64_t r) {
    const int64_t next = input.row_seq.as<const int32_t>()[r];
    if (next != seq && args.rope.present()) {
      inv_freq = rope_frequencies(args.rope, input.kv_len.as<const int32_t>()[next]);
    }
    seq = next;
    position = input.positions.as<const int32_t>()[r];
  }
  void prepare(const Norm& norm, int64_t h, float* head) const {
    const int64_t dim = args.shape.head_dim;
    if (norm.present() && !args.norm_last) host::norm_row(head, norm, h, dim, head);
    if (args.rope.present()) host::rotate(args.rope, inv_freq, position, head);
    if (norm.present() && args.norm_last) host::norm_row(head, norm, h, dim, head);
  }
};

}  // namespace

void HostOps::do_qkv_variant(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) {
  if (dry()) return;
  const auto& [heads, kv_heads, head_dim] = args.shape;
  const int64_t v_dim = kv.v.shape[3];
  over(input().rows, 40 * (heads + kv_heads) * head_dim, [&](int64_t begin, int64_t end) {
    QkvRow row{input(), args, {}};
    std::vector<float> head(static_cast<size_t>(std::max(head_dim, v_dim)));
    for (int64_t r = begin; r < end; ++r) {
      row.enter(r);
      const float* in = row_of(qkv, r);
      const float factor = temperature_at(args.temperature, row.position);
      for (int64_t h = 0; h < heads; ++h) {
        float* to = q.as<float>() + r * q.strides[0] + h * q.strides[1];
        std::copy_n(in + h * head_dim, head_dim, to);
        row.prepare(args.q_norm, h, to);
        for (int64_t i = 0; i < head_dim; ++i) to[i] *= factor;
      }
      for (int64_t h = 0; args.store && h < kv_heads; ++h) {
        std::copy_n(in + (heads + h) * head_dim, head_dim, head.data());
        row.prepare(args.k_norm, h, head.data());
        const int64_t k_at = host::cache_offset(input(), kv.k, kv.group, row.seq, row.position, h);
        for (int64_t i = 0; i < head_dim; ++i) host::store(kv.k, k_at + i, head[static_cast<size_t>(i)]);
        std::copy_n(in + (heads + kv_heads) * head_dim + h * v_dim, v_dim, head.data());
        if (args.v_norm.present()) host::norm_row(head.data(), args.v_norm, h, v_dim, head.data());
        const int64_t v_at = host::cache_offset(input(), kv.v, kv.group, row.seq, row.position, h);
        for (int64_t i = 0; i < v_dim; ++i) host::store(kv.v, v_at + i, head[static_cast<size_t>(i)]);
      }
    }
  });
}

void HostOps::do_latent_store(const LatentArgs& args, const Tensor& queries, const Tensor& kv, const KvView& view,
                              const Tensor& q) {
  if (dry()) return;
  const int64_t width = args.nope_dim + args.rope_dim, stored = args.kv_rank + args.rope_dim;
  over(input().rows, 40 * args.heads * stored, [&](int64_t begin, int64_t end) {
    std::vector<float> inv_freq, row(static_cast<size_t>(stored));
    for (int64_t r = begin; r < end; ++r) {
      const int64_t seq = input().row_seq.as<const int32_t>()[r];
      const int64_t position = input().positions.as<const int32_t>()[r];
      if (args.rope.present()) inv_freq = rope_frequencies(args.rope, input().kv_len.as<const int32_t>()[seq]);
      std::copy_n(row_of(kv, r), stored, row.data());
      if (args.rope.present()) host::rotate(args.rope, inv_freq, position, row.data() + args.kv_rank);
      const int64_t at = host::cache_offset(input(), view.k, view.group, seq, position, 0);
      for (int64_t i = 0; i < stored; ++i) host::store(view.k, at + i, row[static_cast<size_t>(i)]);
      for (int64_t h = 0; h < args.heads; ++h) {
        float* to = q.as<float>() + r * q.strides[0] + h * q.strides[1] + args.kv_rank;
        std::copy_n(row_of(queries, r) + h * width + args.nope_dim, args.rope_dim, to);
        if (args.rope.present()) host::rotate(args.rope, inv_freq, position, to);
      }
    }
  });
}

void HostOps::keep_best(const std::vector<float>& scores, int64_t count, std::vector<int32_t>& best) const {
  best.resize(scores.size());
  std::iota(best.begin(), best.end(), 0);
  if (count >= std::ssize(best)) return;
  const auto score = [&](int32_t i) { return scores[static_cast<size_t>(i)]; };
  std::nth_element(best.begin(), best.begin() + count, best.end(),
                   [&](int32_t a, int32_t b) { return score(a) > score(b) || (score(a) == score(b) && a < b); });
  best.resize(static_cast<size_t>(count));
  std::sort(best.begin(), best.end());
}

void HostOps::do_select(const SelectArgs& args, const Tensor& q, const Tensor& weights, const KvView& keys,
                        const Tensor& selected) {
  if (dry()) return;
  over(input().rows, input().max_kv_len * args.heads * args.head_dim, [&](int64_t begin, int64_t end) {
    std::vector<float> scores, key(static_cast<size_t>(args.head_dim));
    std::vector<int32_t> best;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t seq = input().row_seq.as<const int32_t>()[r];
      const int64_t seen = host::entries_at(keys, input().positions.as<const int32_t>()[r]);
      scores.assign(static_cast<size_t>(seen), 0.0f);
      for (size_t t = 0; t < scores.size(); ++t) {
        const int64_t at = host::entry_offset(input(), keys, seq, static_cast<int64_t>(t));
        for (int64_t i = 0; i < args.head_dim; ++i) key[static_cast<size_t>(i)] = host::load(keys.k, at + i);
        for (int64_t h = 0; h < args.heads; ++h) {
          const float* query = q.as<const float>() + r * q.strides[0] + h * q.strides[1];
          scores[t] += row_of(weights, r)[h] * std::max(0.0f, host::dot(query, key.data(), args.head_dim));
        }
      }
      keep_best(scores, args.top_k, best);
      int32_t* to = selected.as<int32_t>() + r * selected.strides[0];
      std::fill(std::copy(best.begin(), best.end(), to), to + selected.shape[1], -1);
    }
  });
}

namespace {

/// Attention of one query head over what it sees; buffers are kept between calls.
class Attend {
 public:
  Attend(const StepInput& input, const AttnArgs& args, const KvView& kv) : input_(input), args_(args), kv_(kv) {}

  void run(int64_t row, int64_t head, const float* query, float* out) {
    seq_ = input_.row_seq.as<const int32_t>()[row];
    kv_head_ = head / (args_.shape.heads / args_.shape.kv_heads);
    find_visible(row);
    if (args_.key_bias.k.present()) keep_greatest();
    score(head, query);
    const float sink = args_.sinks.present() ? args_.sinks.as<const float>()[head] : -INFINITY;
    float highest = sink;
    for (const float s : scores_) highest = std::max(highest, s);
    float total = std::exp(sink - highest);
    const int64_t v_dim = kv_.v.shape[3];
    std::fill_n(out, v_dim, 0.0f);
    if (highest == -INFINITY) return;  // sees nothing
    value_.resize(static_cast<size_t>(v_dim));
    for (size_t i = 0; i < scores_.size(); ++i) {
      const float weight = std::exp(scores_[i] - highest);
      if (weight == 0) continue;
      total += weight;
      const float* value = i < tokens_ ? read(kv_.v, visible_[i], v_dim) : read_entry(visible_[i], v_dim);
      for (int64_t d = 0; d < v_dim; ++d) out[d] += weight * value[d];
    }
    for (int64_t d = 0; d < v_dim; ++d) out[d] /= total;
  }

 private:
  // Positions of tokens, then entries.
  void find_visible(int64_t row) {
    const int64_t last = input_.positions.as<const int32_t>()[row];
    const bool entries = args_.entries.k.present();
    position_ = last;
    visible_.clear();
    int64_t first = 0;
    if (args_.window > 0) {
      first = args_.chunked ? last / args_.window * args_.window : std::max<int64_t>(0, last - args_.window + 1);
    }
    for (int64_t t = first; t <= last && (entries || !args_.selected.present()); ++t) visible_.push_back(t);
    tokens_ = visible_.size();
    if (args_.selected.present()) {
      const int32_t* chosen = args_.selected.as<const int32_t>() + row * args_.selected.strides[0];
      for (int64_t i = 0; i < args_.selected.shape[1]; ++i) {
        if (chosen[i] >= 0) visible_.push_back(chosen[i]);
      }
    } else if (entries) {
      for (int64_t e = 0; e < host::entries_at(args_.entries, last); ++e) visible_.push_back(e);
    }
    if (!entries) tokens_ = visible_.size();
  }

  float key_bias(int64_t position) const {
    const KvView& view = args_.key_bias;
    return host::load(view.k, host::cache_offset(input_, view.k, view.group, seq_, position, 0) + kv_head_);
  }

  void keep_greatest() {
    const auto keep = static_cast<size_t>(args_.keep);
    if (keep == 0 || visible_.size() <= keep || mutated("attention.keep")) return;
    std::vector<std::pair<float, int64_t>> ranked;  // the greatest and first sort first
    for (const int64_t t : visible_) ranked.emplace_back(-key_bias(t), t);
    std::nth_element(ranked.begin(), ranked.begin() + args_.keep, ranked.end());
    visible_.clear();
    for (size_t i = 0; i < keep; ++i) visible_.push_back(ranked[i].second);
    std::sort(visible_.begin(), visible_.end());
  }

  void score(int64_t head, const float* query) {
    const float slope = args_.slopes.present() ? args_.slopes.as<const float>()[head] : 0;
    const bool biased = args_.key_bias.k.present();
    scores_.resize(visible_.size());
    value_.resize(static_cast<size_t>(args_.shape.head_dim));
    for (size_t i = 0; i < visible_.size(); ++i) {
      const int64_t t = visible_[i], dim = args_.shape.head_dim;
      float s = args_.scale * host::dot(query, i < tokens_ ? read(kv_.k, t, dim) : read_entry(t, dim), dim);
      if (args_.softcap > 0) s = args_.softcap * std::tanh(s / args_.softcap);
      if (slope != 0) s -= slope * static_cast<float>(position_ - t);
      if (biased) s += key_bias(t);
      scores_[i] = s;
    }
  }

  const float* read(const Tensor& view, int64_t position, int64_t dim) {
    return floats(view, host::cache_offset(input_, view, kv_.group, seq_, position, kv_head_), dim);
  }
  const float* read_entry(int64_t entry, int64_t dim) {
    return floats(args_.entries.k, host::entry_offset(input_, args_.entries, seq_, entry), dim);
  }
  const float* floats(const Tensor& view, int64_t at, int64_t dim) {
    if (view.dtype == DType::kF32) return view.as<const float>() + at;
    for (int64_t i = 0; i < dim; ++i) value_[static_cast<size_t>(i)] = host::load(view, at + i);
    return value_.data();
  }

  const StepInput& input_;
  const AttnArgs& args_;
  const KvView& kv_;
  int64_t seq_ = 0, kv_head_ = 0, position_ = 0;
  std::vector<int64_t> visible_;
  size_t tokens_ = 0;  // of visible_; the rest are entries
  std::vector<float> scores_, value_;
};

}  // namespace

void HostOps::do_attention_variant(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) {
  if (dry()) return;
  const int64_t heads = args.shape.heads;
  const int64_t seen = args.window > 0 ? std::min(args.window, input().max_kv_len) : input().max_kv_len;
  over(input().rows * heads, seen * (args.shape.head_dim + kv.v.shape[3]), [&](int64_t begin, int64_t end) {
    Attend attend(input(), args, kv);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t r = i / heads, h = i % heads;
      attend.run(r, h, q.as<const float>() + r * q.strides[0] + h * q.strides[1],
                 out.as<float>() + r * out.strides[0] + h * out.strides[1]);
    }
  });
}

}  // namespace baize
