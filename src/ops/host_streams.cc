// Hyper-connections and compressed keys in HostOps.
#include <numeric>

#include "ops/host_math.h"
#include "ops/host_ops.h"
#include "ops/rope.h"

namespace baize {

using host::row_of;

namespace {

// Rows become probabilities; then columns and rows are brought to sum 1 in turn (Sinkhorn & Knopp 1967).
void make_doubly_stochastic(float* mix, int64_t n, const HyperArgs& args) {
  const auto divide = [&](int64_t begin, int64_t step, float extra) {
    float total = extra;
    for (int64_t i = 0; i < n; ++i) total += mix[begin + i * step];
    for (int64_t i = 0; i < n; ++i) mix[begin + i * step] /= total;
  };
  for (int64_t r = 0; r < n; ++r) {
    const float highest = *std::max_element(mix + r * n, mix + (r + 1) * n);
    for (int64_t c = 0; c < n; ++c) mix[r * n + c] = std::exp(mix[r * n + c] - highest);
    divide(r * n, 1, 0);
    for (int64_t c = 0; c < n; ++c) mix[r * n + c] += args.eps;
  }
  for (int64_t round = 0; round < args.mix_rounds; ++round) {
    for (int64_t r = 0; r < n && round > 0; ++r) divide(r * n, 1, args.eps);
    for (int64_t c = 0; c < n; ++c) divide(c, n, args.eps);
  }
}

}  // namespace

void HostOps::do_hyper_read(const HyperArgs& args, const Tensor& x, const Tensor& logits, const Tensor& read,
                            const Tensor& weights) {
  if (dry()) return;
  const int64_t n = args.streams, width = x.shape[1], hidden = read.shape[1];
  const auto* base = args.base.as<const float>();
  const auto* scale = args.scale.as<const float>();
  over(x.shape[0], 2 * width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* in = row_of(x, r);
      const float* l = row_of(logits, r);
      const float rms = 1 / std::sqrt(host::dot(in, in, width) / static_cast<float>(width) + args.norm_eps);
      float* out = row_of(read, r);
      std::fill_n(out, hidden, 0.0f);
      for (int64_t s = 0; s < n; ++s) {
        const float share = host::sigmoid(scale[0] * rms * l[s] + base[s]) + args.eps;
        for (int64_t i = 0; i < hidden; ++i) out[i] += share * in[s * hidden + i];
      }
      if (!weights.present()) continue;
      float* to = row_of(weights, r);
      for (int64_t s = 0; s < n; ++s) {
        to[s] = args.magnitude * host::sigmoid(scale[1] * rms * l[n + s] + base[n + s]) + args.post_eps;
      }
      if (args.mix_rounds == 0) continue;
      for (int64_t i = 0; i < n * n; ++i) to[n + i] = scale[2] * rms * l[2 * n + i] + base[2 * n + i];
      make_doubly_stochastic(to + n, n, args);
    }
  });
}

void HostOps::do_hyper_write(const HyperArgs& args, const Tensor& x, const Tensor& given, const Tensor& weights) {
  if (dry()) return;
  const int64_t n = args.streams, hidden = given.shape[1];
  over(x.shape[0], (1 + n) * x.shape[1], [&](int64_t begin, int64_t end) {
    std::vector<float> before(static_cast<size_t>(n));
    for (int64_t r = begin; r < end; ++r) {
      float* streams = row_of(x, r);
      const float *added = row_of(given, r), *post = row_of(weights, r), *mix = post + n;
      for (int64_t i = 0; i < hidden; ++i) {
        for (int64_t s = 0; s < n; ++s) before[static_cast<size_t>(s)] = streams[s * hidden + i];
        for (int64_t to = 0; to < n; ++to) {
          float sum = post[to] * added[i];
          for (int64_t from = 0; from < n && args.mix_rounds > 0; ++from) {
            sum += mix[from * n + to] * before[static_cast<size_t>(from)];
          }
          streams[to * hidden + i] = sum + (args.mix_rounds > 0 ? 0 : before[static_cast<size_t>(to)]);
        }
      }
    }
  });
}

namespace {

/// Makes the entries of one step.
class Compressor {
 public:
  Compressor(const StepInput& input, const CompressArgs& args, const KvView& recent, const KvView& entries)
      : input_(input), args_(args), recent_(recent), entries_(entries) {}

  /// The entry whose last token is `position`.
  void make(int64_t seq, int64_t position) {
    const auto count = static_cast<size_t>(args_.dim);
    entry_.assign(count, 0.0f);
    total_.assign(count, 0.0f);
    highest_.assign(count, -INFINITY);
    const int64_t first = position + 1 - args_.rate;
    if (args_.overlap && first > 0) {
      for (int64_t t = first - args_.rate; t < first; ++t) take(seq, t, 0);
    }
    for (int64_t t = first; t <= position; ++t) take(seq, t, args_.overlap ? args_.dim : 0);
    for (size_t i = 0; i < count; ++i) entry_[i] /= total_[i];
    host::norm_row(entry_.data(), args_.norm, 0, args_.dim, entry_.data());
    if (args_.rope.present()) {
      host::rotate(args_.rope, rope_frequencies(args_.rope, input_.kv_len.as<const int32_t>()[seq]), first,
                   entry_.data());
    }
    const int64_t at = host::entry_offset(input_, entries_, seq, position / args_.rate);
    for (size_t i = 0; i < count; ++i) host::store(entries_.k, at + static_cast<int64_t>(i), entry_[i]);
  }

 private:
  // One token's part of the running softmax, from its columns `column` on.
  void take(int64_t seq, int64_t t, int64_t column) {
    const int64_t at = host::cache_offset(input_, recent_.k, recent_.group, seq, t, 0) + column;
    const float* bias = args_.bias.as<const float>() + t % args_.rate * args_.width() + column;
    for (int64_t i = 0; i < args_.dim; ++i) {
      const auto c = static_cast<size_t>(i);
      const float gate = host::load(recent_.k, at + args_.width() + i) + bias[i];
      const float highest = std::max(highest_[c], gate);
      const float keep = std::exp(highest_[c] - highest), share = std::exp(gate - highest);
      entry_[c] = entry_[c] * keep + share * host::load(recent_.k, at + i);
      total_[c] = total_[c] * keep + share;
      highest_[c] = highest;
    }
  }

  const StepInput& input_;
  const CompressArgs& args_;
  const KvView &recent_, &entries_;
  std::vector<float> entry_, total_, highest_;
};

}  // namespace

void HostOps::do_compress(const CompressArgs& args, const Tensor& x, const KvView& recent, const KvView& entries) {
  if (dry()) return;
  const auto* seqs = input().row_seq.as<const int32_t>();
  const auto* positions = input().positions.as<const int32_t>();
  over(input().rows, x.shape[1], [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t at = host::cache_offset(input(), recent.k, recent.group, seqs[r], positions[r], 0);
      for (int64_t i = 0; i < x.shape[1]; ++i) host::store(recent.k, at + i, row_of(x, r)[i]);
    }
  });
  over(input().rows, 4 * x.shape[1], [&](int64_t begin, int64_t end) {
    Compressor compressor(input(), args, recent, entries);
    for (int64_t r = begin; r < end; ++r) {
      if ((positions[r] + 1) % args.rate == 0) compressor.make(seqs[r], positions[r]);
    }
  });
}

}  // namespace baize
