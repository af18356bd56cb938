// Recurrences in HostOps, sequence by sequence and token by token: convolutions over the last tokens, linear attention
// with decay (Mamba-2, gated delta rule, KDA, lightning attention), selective scans (Mamba), RG-LRU and RWKV-4. A state
// begins at zero where a sequence's first token is computed.
#include "base/mutate.h"
#include "ops/host_math.h"
#include "ops/host_ops.h"

namespace baize {

using host::row_of;

namespace {

struct Rows {
  int64_t begin, end;
};

Rows rows_of(const StepInput& input, int64_t seq) {
  const int32_t* start = input.q_start.as<const int32_t>();
  return {start[seq], start[seq + 1]};
}

// Where the state of a sequence lies; zeroed before its first token.
float* state_of(const StepInput& input, const KvView& view, int64_t seq, int64_t offset, int64_t count) {
  const Tensor& table = input.block_tables[static_cast<size_t>(view.group)];
  const int64_t page = table.as<const int32_t>()[seq * table.strides[0] + view.column];
  BAIZE_CHECK(page >= 0 && page < view.k.shape[0]);
  float* state = view.k.as<float>() + page * view.k.strides[0] + offset;
  const Rows rows = rows_of(input, seq);
  const bool fresh = rows.begin < rows.end && input.positions.as<const int32_t>()[rows.begin] == 0;
  if (fresh) std::fill_n(state, count, 0.0f);
  return state;
}

}  // namespace

void HostOps::do_causal_conv(const ConvArgs& args, const Tensor& x, const KvView& view) {
  if (dry()) return;
  const int64_t channels = x.shape[1], width = args.width, kept = width - 1;
  const float* weight = args.weight.as<const float>();
  const float* bias = args.bias.present() ? args.bias.as<const float>() : nullptr;
  const ActArgs act{.kind = args.activation};
  over(input().seqs, x.shape[0] * channels * width / std::max<int64_t>(1, input().seqs),
       [&](int64_t first, int64_t last) {
         std::vector<float> inputs(static_cast<size_t>(width));
         for (int64_t seq = first; seq < last; ++seq) {
           float* state = state_of(input(), view, seq, args.offset, channels * kept);
           const Rows rows = rows_of(input(), seq);
           for (int64_t c = 0; c < channels; ++c) {
             std::copy_n(state + c * kept, kept, inputs.data());
             for (int64_t r = rows.begin; r < rows.end; ++r) {
               float& value = row_of(x, r)[c];
               inputs[static_cast<size_t>(kept)] = value;
               float sum = bias != nullptr ? bias[c] : 0.0f;
               for (int64_t i = 0; i < width; ++i) sum += inputs[static_cast<size_t>(i)] * weight[c * width + i];
               value = host::activate(act, sum);
               std::copy(inputs.begin() + 1, inputs.end(), inputs.begin());
             }
             std::copy_n(inputs.data(), kept, state + c * kept);
           }
         }
       });
}

void HostOps::do_decay(const DecayArgs& args, const Tensor& a, const Tensor& decay) {
  if (dry()) return;
  const int64_t n = a.shape[1], stretch = n / args.rate.shape[0];
  const float* bias = args.bias.present() ? args.bias.as<const float>() : nullptr;
  for (int64_t r = 0; r < a.shape[0]; ++r) {
    float* step = row_of(a, r);
    for (int64_t i = 0; i < n; ++i) {
      step[i] = std::clamp(host::softplus(step[i] + (bias != nullptr ? bias[i] : 0.0f)), args.least, args.most);
      row_of(decay, r)[i] = std::exp(-args.rate.as<const float>()[i / stretch] * step[i]);
    }
  }
}

namespace {

// q and k of one token and head, normalised where the recurrence wants it.
void unit_length(const float* x, int64_t n, float scale, bool normalise, float* out) {
  float factor = scale;
  if (normalise) factor /= std::sqrt(host::dot(x, x, n) + 1e-6f);
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * factor;
}

}  // namespace

namespace {

/// One head of lightning attention in blocks; see RecurrenceArgs::block.
struct BlockHead {
  const RecurrenceArgs& args;
  int64_t head;
  float *s, *keys, *values;  // [key_dim][value_dim]; [block][key_dim]; [block][value_dim]

  float table(const Tensor& t, int64_t i) const { return t.as<const float>()[head * args.block + i]; }

  // The block is full: its keys and values enter S.
  void close_block() const {
    const float decay = std::pow(args.rate.as<const float>()[head], static_cast<float>(args.block));
    for (int64_t i = 0; i < args.key_dim * args.value_dim; ++i) s[i] *= decay;
    for (int64_t t = 0; t < args.block; ++t) add(keys + t * args.key_dim, values + t * args.value_dim, t);
  }
  void add(const float* k, const float* v, int64_t place) const {
    const float weight = table(args.leave, place);
    for (int64_t i = 0; i < args.key_dim; ++i) {
      for (int64_t j = 0; j < args.value_dim; ++j) s[i * args.value_dim + j] += weight * k[i] * v[j];
    }
  }
  void attend(const float* q, int64_t place, float* y) const {
    std::fill_n(y, args.value_dim, 0.0f);
    for (int64_t i = 0; i < args.key_dim; ++i) {
      const float query = q[i] * table(args.enter, place);
      for (int64_t j = 0; j < args.value_dim; ++j) y[j] += query * s[i * args.value_dim + j];
    }
    for (int64_t t = 0; t <= place; ++t) {
      const float weight = host::dot(q, keys + t * args.key_dim, args.key_dim) * table(args.near, place - t);
      for (int64_t j = 0; j < args.value_dim; ++j) y[j] += weight * values[t * args.value_dim + j];
    }
  }
};

}  // namespace

void HostOps::recurrence_in_blocks(const RecurrenceArgs& args, const RecurrenceInputs& in, const KvView& view,
                                   const Tensor& out) {
  const int64_t dk = args.key_dim, dv = args.value_dim, heads = args.heads, each = dk * dv + args.block * (dk + dv);
  over(input().seqs * heads, out.shape[0] * (dk * dv + args.block * (dk + dv)), [&](int64_t first, int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      const int64_t seq = item / heads, h = item % heads;
      float* state = state_of(input(), view, seq, args.offset + h * each, each);
      const BlockHead head{args, h, state, state + dk * dv, state + dk * dv + args.block * dk};
      const Rows rows = rows_of(input(), seq);
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        const int64_t position = input().positions.as<const int32_t>()[r], place = position % args.block;
        if (place == 0 && position > 0) head.close_block();
        std::copy_n(row_of(in.k, r) + h * dk, dk, head.keys + place * dk);
        std::copy_n(row_of(in.v, r) + h * dv, dv, head.values + place * dv);
        head.attend(row_of(in.q, r) + h * dk, place, row_of(out, r) + h * dv);
      }
    }
  });
}

void HostOps::do_recurrence(const RecurrenceArgs& args, const RecurrenceInputs& in, const KvView& view,
                            const Tensor& out) {
  if (dry()) return;
  if (args.block > 0) return recurrence_in_blocks(args, in, view, out);
  const int64_t dk = args.key_dim, dv = args.value_dim, heads = args.heads;
  over(input().seqs * heads, out.shape[0] * dk * dv * 4, [&](int64_t first, int64_t last) {
    std::vector<float> q(static_cast<size_t>(dk)), k(q.size()), change(static_cast<size_t>(dv));
    for (int64_t item = first; item < last; ++item) {
      const int64_t seq = item / heads, h = item % heads, key_head = h / (heads / args.key_heads);
      float* state = state_of(input(), view, seq, args.offset + h * dk * dv, dk * dv);  // [dk][dv]
      const Rows rows = rows_of(input(), seq);
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        unit_length(row_of(in.q, r) + key_head * dk, dk, args.q_scale, args.unit_keys, q.data());
        unit_length(row_of(in.k, r) + key_head * dk, dk, 1, args.unit_keys, k.data());
        const float* v = row_of(in.v, r) + h * dv;
        const float beta = in.beta.present() ? row_of(in.beta, r)[h] : 1.0f;
        for (int64_t i = 0; i < dk; ++i) {
          float g = 1;
          if (in.decay.present()) g = row_of(in.decay, r)[args.channel_decay ? h * dk + i : h];
          if (args.rate.present()) g = args.rate.as<const float>()[h];
          for (int64_t j = 0; j < dv; ++j) state[i * dv + j] *= g;
        }
        std::copy_n(v, dv, change.data());
        for (int64_t i = 0; args.delta && i < dk; ++i) {
          for (int64_t j = 0; j < dv; ++j)
            change[static_cast<size_t>(j)] -= state[i * dv + j] * k[static_cast<size_t>(i)];
        }
        float* y = row_of(out, r) + h * dv;
        const float skip = args.skip.present() ? args.skip.as<const float>()[h] : 0;
        for (int64_t j = 0; j < dv; ++j) y[j] = skip * v[j];
        for (int64_t i = 0; i < dk; ++i) {
          const float key = k[static_cast<size_t>(i)] * beta, query = q[static_cast<size_t>(i)];
          for (int64_t j = 0; j < dv; ++j) {
            state[i * dv + j] += key * change[static_cast<size_t>(j)];
            y[j] += query * state[i * dv + j];
          }
        }
      }
    }
  });
}

void HostOps::do_selective_scan(const ScanArgs& args, const ScanInputs& in, const KvView& view, const Tensor& out) {
  if (dry()) return;
  const int64_t width = out.shape[1], n = args.state;
  over(input().seqs, out.shape[0] * width * n * 8, [&](int64_t first, int64_t last) {
    for (int64_t seq = first; seq < last; ++seq) {
      float* state = state_of(input(), view, seq, args.offset, width * n);
      const Rows rows = rows_of(input(), seq);
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        const float *b = row_of(in.b, r), *c = row_of(in.c, r);
        for (int64_t d = 0; d < width; ++d) {
          const float dt = host::softplus(row_of(in.dt, r)[d]), x = row_of(in.x, r)[d];
          const float* rate = args.rate.as<const float>() + d * n;
          float y = args.skip.as<const float>()[d] * x;
          for (int64_t i = 0; i < n; ++i) {
            float& s = state[d * n + i];
            s = std::exp(-rate[i] * dt) * s + dt * b[i] * x;
            y += s * c[i];
          }
          row_of(out, r)[d] = y;
        }
      }
    }
  });
}

void HostOps::do_rg_lru(const LruArgs& args, const Tensor& x, const Tensor& input_gate, const Tensor& decay_gate,
                        const KvView& view) {
  if (dry()) return;
  const int64_t width = x.shape[1];
  for (int64_t seq = 0; seq < input().seqs; ++seq) {
    float* state = state_of(input(), view, seq, args.offset, width);
    const Rows rows = rows_of(input(), seq);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const bool first = input().positions.as<const int32_t>()[r] == 0;
      for (int64_t i = 0; i < width; ++i) {
        const float log_decay = -8.0f * host::sigmoid(row_of(decay_gate, r)[i]) * args.rate.as<const float>()[i];
        const float strength = first ? 1.0f : std::sqrt(1.0f - std::exp(2 * log_decay));
        const float entering = row_of(x, r)[i] * host::sigmoid(row_of(input_gate, r)[i]) * strength;
        state[i] = std::exp(log_decay) * state[i] + entering;
        row_of(x, r)[i] = state[i];
      }
    }
  }
}

void HostOps::do_token_shift(const Tensor& x, const KvView& view, int64_t offset, const Tensor& out) {
  if (dry()) return;
  const int64_t width = x.shape[1];
  for (int64_t seq = 0; seq < input().seqs; ++seq) {
    float* last = state_of(input(), view, seq, offset, width);
    const Rows rows = rows_of(input(), seq);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      std::copy_n(last, width, row_of(out, r));
      std::copy_n(row_of(x, r), width, last);
    }
  }
}

void HostOps::do_mix(const Tensor& x, const Tensor& other, const Tensor& share, const Tensor& out) {
  if (dry()) return;
  for (int64_t r = 0; r < x.shape[0]; ++r) {
    for (int64_t i = 0; i < x.shape[1]; ++i) {
      const float s = share.as<const float>()[i];
      row_of(out, r)[i] = row_of(x, r)[i] * s + row_of(other, r)[i] * (1 - s);
    }
  }
}

void HostOps::do_wkv4(const WkvArgs& args, const Tensor& k, const Tensor& v, const KvView& view, const Tensor& out) {
  if (dry()) return;
  const int64_t width = k.shape[1];
  for (int64_t seq = 0; seq < input().seqs; ++seq) {
    // Numerator, denominator, and the exponent both are relative to. An empty sum weighs nothing at any exponent.
    float* sums = state_of(input(), view, seq, args.offset, 3 * width);
    const Rows rows = rows_of(input(), seq);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      for (int64_t i = 0; i < width; ++i) {
        float &num = sums[i], &den = sums[width + i], &top = sums[2 * width + i];
        const float key = row_of(k, r)[i], value = row_of(v, r)[i];
        const float bonus = key + args.first.as<const float>()[i];
        const float before = den > 0 ? top : -INFINITY;
        const float high = std::max(before, bonus);
        float old = std::exp(before - high), now = std::exp(bonus - high);
        row_of(out, r)[i] = (old * num + now * value) / (old * den + now);
        const float faded = before - args.rate.as<const float>()[i];
        top = std::max(faded, key);
        old = std::exp(faded - top);
        now = std::exp(key - top);
        num = old * num + now * value;
        den = old * den + now;
      }
    }
  }
}

}  // namespace baize
