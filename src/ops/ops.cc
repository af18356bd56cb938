#include "ops/ops.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/error.h"

namespace baize {

void Ops::begin_step(const StepInput& input) {
  BAIZE_CHECK(input_ == nullptr);
  input_ = &input;
  do_begin_step();
}

void Ops::end_step() {
  BAIZE_CHECK(input_ != nullptr);
  do_end_step();
  input_ = nullptr;
  arena_.release(0);
  if (dry()) cost_.arena_bytes = std::max(cost_.arena_bytes, arena_.peak());
}

void Ops::abandon_step() {
  input_ = nullptr;
  arena_.release(0);
}

Tensor Ops::temp(DType dtype, const Shape& shape) {
  return Tensor(arena_.allocate(shape.elements() * dtype_bytes(dtype)), dtype, shape, arena_.place());
}

void Ops::embed(const Embed& table, const Tensor& out) {
  BAIZE_DCHECK(out.shape[0] == input().rows && out.shape[1] == table.shape.k);
  if (dry()) cost_.weight_bytes += input().rows * table.shape.format.row_bytes(table.shape.k);
  do_embed(table, out);
}

void Ops::linear(std::span<const Linear> parts, const Tensor& x, const Tensor& out, const Epilogue& epilogue) {
  constexpr size_t kMaxParts = 4;
  BAIZE_CHECK(!parts.empty() && parts.size() <= kMaxParts);
  const int64_t m = x.shape[0];
  std::array<LinearCall, kMaxParts> calls;
  int64_t column = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const LinearShape& shape = parts[i].shape;
    BAIZE_DCHECK(shape.k == x.shape[1]);
    calls[i] = {&parts[i], x, out.columns(column, shape.n), epilogue};
    column += shape.n;
    if (dry()) {
      cost_.flops += 2 * m * shape.n * shape.k;
      cost_.weight_bytes += shape.n * shape.format.row_bytes(shape.k);
    }
  }
  BAIZE_DCHECK(column == out.shape[1]);
  // Runs of parts with the same kernel go together, so that it prepares x once.
  for (size_t begin = 0; begin < parts.size();) {
    const LinearKernel& kernel = parts[begin].kernel(m);
    size_t end = begin;
    int64_t workspace = 0;
    for (; end < parts.size() && &parts[end].kernel(m) == &kernel; ++end) {
      workspace = std::max(workspace, kernel.workspace(parts[end].shape, m));
    }
    const Scope scope(*this);
    void* memory = workspace > 0 ? temp(DType::kU8, {workspace}).data : nullptr;
    do_linear(std::span(calls).subspan(begin, end - begin), memory);
    begin = end;
  }
}

void Ops::norm(const Tensor& x, const Norm& norm, const Tensor& out) {
  norm.plain() ? do_norm(x, norm, out) : do_norm_variant(x, norm, out);
}

void Ops::add(const Tensor& residual, const Tensor& x) { do_add(residual, x); }

void Ops::add_norm(const Tensor& residual, const Tensor& x, const Norm& norm, const Tensor& out) {
  if (norm.plain()) {
    do_add_norm(residual, x, norm, out);
  } else {
    do_add(residual, x);
    do_norm_variant(residual, norm, out);
  }
}

void Ops::do_add_norm(const Tensor& residual, const Tensor& x, const Norm& norm, const Tensor& out) {
  do_add(residual, x);
  do_norm(residual, norm, out);
}

void Ops::gated_activation(const Tensor& gate_up, Activation activation, const Tensor& out) {
  BAIZE_DCHECK(gate_up.shape[1] == 2 * out.shape[1]);
  do_gated_activation(gate_up, activation, out);
}

void Ops::qk_norm_rope_store(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) {
  const AttnShape& s = args.shape;
  const int64_t v_dim = kv.v.shape[3];
  BAIZE_DCHECK(qkv.shape[1] == s.heads * s.head_dim + (args.store ? s.kv_heads * (s.head_dim + v_dim) : 0));
  if (dry() && args.store) {
    cost_.cache_bytes += input().rows * s.kv_heads * (s.head_dim + v_dim) * dtype_bytes(kv.k.dtype);
  }
  if (args.plain() && v_dim == s.head_dim) {
    do_qk_norm_rope_store(args, qkv, kv, q);
  } else {
    do_qkv_variant(args, qkv, kv, q);
  }
}

void Ops::attention(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) {
  if (dry()) {
    const AttnShape& s = args.shape;
    const int64_t dims = s.head_dim + kv.v.shape[3];
    int64_t seen = args.window > 0 ? std::min(args.window, input().max_kv_len) : input().max_kv_len;
    if (args.entries.k.present()) {
      const int64_t entries = input().max_kv_len / args.entries.stride;
      seen += args.selected.present() ? std::min(entries, args.selected.shape[1]) : entries;
    } else if (args.selected.present()) {
      seen = std::min(seen, args.selected.shape[1]);
    }
    cost_.flops += 2 * input().rows * s.heads * dims * seen;
    cost_.cache_bytes += input().seqs * seen * s.kv_heads * dims * dtype_bytes(kv.k.dtype);
  }
  if (args.plain() && kv.v.shape[3] == args.shape.head_dim) {
    do_attention(args, q, kv, out);
  } else {
    do_attention_variant(args, q, kv, out);
  }
}

void Ops::activate(const ActArgs& args, const Tensor& x, const Tensor& out) {
  const bool gated = x.shape[1] != out.shape[1];
  BAIZE_DCHECK(x.shape[1] == (gated ? 2 : 1) * out.shape[1]);
  gated&& args.plain() ? do_gated_activation(x, args.kind, out) : do_activate(args, x, out);
}

void Ops::gate(const Tensor& x, const Tensor& gate, Activation activation) {
  BAIZE_DCHECK(x.shape[1] % gate.shape[1] == 0);
  do_gate(x, gate, activation);
}

void Ops::scale(const Tensor& x, const Tensor& vector, float alpha, const Tensor& out) {
  BAIZE_DCHECK(!vector.present() || vector.shape[0] == x.shape[1] || vector.shape[0] == 1);
  do_scale(x, vector, alpha, out);
}

void Ops::add_vector(const Tensor& x, const Tensor& vector) { do_add_vector(x, vector); }

void Ops::clamp(const Tensor& x, float limit) { do_clamp(x, limit); }

void Ops::match_rms(const Tensor& x, const Tensor& like, float floor) { do_match_rms(x, like, floor); }

void Ops::mix_streams(const Tensor& x, int64_t from, const Tensor& weights, const Tensor& out) {
  BAIZE_DCHECK(x.shape[1] % from == 0 && weights.shape[1] * x.shape[1] == from * from * out.shape[1]);
  if (dry()) cost_.flops += 2 * x.shape[0] * from * out.shape[1];
  do_mix_streams(x, from, weights, out);
}

void Ops::add_positions(const Tensor& table, int64_t offset, const Tensor& residual) {
  do_add_positions(table, offset, residual);
}

void Ops::latent_store(const LatentArgs& args, const Tensor& queries, const Tensor& kv, const KvView& view,
                       const Tensor& q) {
  BAIZE_DCHECK(queries.shape[1] == args.heads * (args.nope_dim + args.rope_dim));
  if (dry()) cost_.cache_bytes += input().rows * kv.shape[1] * dtype_bytes(view.k.dtype);
  do_latent_store(args, queries, kv, view, q);
}

void Ops::compress(const CompressArgs& args, const Tensor& x, const KvView& recent, const KvView& entries) {
  BAIZE_DCHECK(x.shape[1] == 2 * args.width() && recent.k.shape[3] == x.shape[1] && entries.k.shape[3] == args.dim);
  if (dry()) {
    const int64_t reads = 1 + (args.overlap ? 2 : 1);  // every value is written once, and read by one entry or two
    cost_.flops += 2 * input().rows * 2 * x.shape[1];
    cost_.cache_bytes += input().rows * x.shape[1] * reads * dtype_bytes(recent.k.dtype);
  }
  do_compress(args, x, recent, entries);
}

void Ops::hyper_read(const HyperArgs& args, const Tensor& x, const Tensor& logits, const Tensor& read,
                     const Tensor& weights) {
  BAIZE_DCHECK(x.shape[1] == args.streams * read.shape[1] && logits.shape[1] == args.base.shape[0]);
  if (dry()) cost_.flops += 4 * x.shape.elements();
  do_hyper_read(args, x, logits, read, weights);
}

void Ops::hyper_write(const HyperArgs& args, const Tensor& x, const Tensor& given, const Tensor& weights) {
  BAIZE_DCHECK(x.shape[1] == args.streams * given.shape[1]);
  if (dry()) cost_.flops += 2 * x.shape.elements() * (1 + (args.mix_rounds > 0 ? args.streams : 0));
  do_hyper_write(args, x, given, weights);
}

void Ops::select(const SelectArgs& args, const Tensor& q, const Tensor& weights, const KvView& keys,
                 const Tensor& selected) {
  BAIZE_DCHECK(selected.shape[1] >= std::min(args.top_k, input().max_kv_len) && keys.k.shape[3] == args.head_dim);
  if (dry()) {
    const int64_t seen = input().max_kv_len / std::max<int64_t>(1, keys.stride);
    cost_.flops += 2 * input().rows * args.heads * args.head_dim * seen;
    cost_.cache_bytes += input().seqs * seen * args.head_dim * dtype_bytes(keys.k.dtype);
  }
  do_select(args, q, weights, keys, selected);
}

void Ops::route(const RouteArgs& args, const Tensor& logits, const Routing& routing) {
  BAIZE_DCHECK(routing.ids.shape[1] == args.top_k && logits.shape[1] >= args.top_k);
  do_route(args, logits, routing);
}

void Ops::experts(const Experts& experts, const Tensor& x, const Routing& routing, const Tensor& out) {
  if (dry()) {
    const int64_t chosen = x.shape[0] * routing.ids.shape[1];
    for (const std::span<const Linear> part : {experts.gate, experts.up, experts.down}) {
      if (part.empty()) continue;
      const LinearShape& shape = part[0].shape;
      cost_.flops += 2 * chosen * shape.n * shape.k;
      cost_.weight_bytes +=
          std::min(chosen, static_cast<int64_t>(part.size())) * shape.n * shape.format.row_bytes(shape.k);
    }
  }
  do_experts(experts, x, routing, out);
}

namespace {
// Bytes of states read and written, and multiply-adds of `each` state value a row.
void count_state(StepCost& cost, const StepInput& input, int64_t values, int64_t each) {
  cost.flops += 2 * input.rows * values * each;
  cost.cache_bytes += 2 * input.seqs * values * dtype_bytes(DType::kF32);
}
}  // namespace

void Ops::causal_conv(const ConvArgs& args, const Tensor& x, const KvView& state) {
  if (dry()) count_state(cost_, input(), x.shape[1] * args.width, 1);
  do_causal_conv(args, x, state);
}

void Ops::decay(const DecayArgs& args, const Tensor& a, const Tensor& decay) { do_decay(args, a, decay); }

void Ops::recurrence(const RecurrenceArgs& args, const RecurrenceInputs& in, const KvView& state, const Tensor& out) {
  if (dry()) count_state(cost_, input(), args.heads * args.key_dim * args.value_dim, args.delta ? 4 : 3);
  do_recurrence(args, in, state, out);
}

void Ops::selective_scan(const ScanArgs& args, const ScanInputs& in, const KvView& state, const Tensor& out) {
  if (dry()) count_state(cost_, input(), out.shape[1] * args.state, 3);
  do_selective_scan(args, in, state, out);
}

void Ops::rg_lru(const LruArgs& args, const Tensor& x, const Tensor& input_gate, const Tensor& decay_gate,
                 const KvView& state) {
  if (dry()) count_state(cost_, input(), x.shape[1], 2);
  do_rg_lru(args, x, input_gate, decay_gate, state);
}

void Ops::token_shift(const Tensor& x, const KvView& state, int64_t offset, const Tensor& out) {
  if (dry()) count_state(cost_, input(), x.shape[1], 0);
  do_token_shift(x, state, offset, out);
}

void Ops::mix(const Tensor& x, const Tensor& other, const Tensor& share, const Tensor& out) {
  do_mix(x, other, share, out);
}

void Ops::wkv4(const WkvArgs& args, const Tensor& k, const Tensor& v, const KvView& state, const Tensor& out) {
  if (dry()) count_state(cost_, input(), 3 * k.shape[1], 2);
  do_wkv4(args, k, v, state, out);
}

void Ops::gather_out_rows(const Tensor& x, const Tensor& out) { do_gather_out_rows(x, out); }

void Ops::sample(const SampleArgs& args, const Tensor& logits) { do_sample(args, logits); }

void Ops::do_sample(const SampleArgs& args, const Tensor& logits) {
  if (!dry()) sample_on_host(args, logits);
}

namespace {
[[noreturn]] void lacking(const char* what) {
  fail(ErrorKind::kUnsupported, "this backend has no {} yet, which the model needs: run it with --backend cpu", what);
}
}  // namespace

void Ops::do_norm_variant(const Tensor&, const Norm&, const Tensor&) { lacking("layer norm"); }
void Ops::do_activate(const ActArgs&, const Tensor&, const Tensor&) { lacking("such activation"); }
void Ops::do_gate(const Tensor&, const Tensor&, Activation) { lacking("gates"); }
void Ops::do_scale(const Tensor&, const Tensor&, float, const Tensor&) { lacking("scaling"); }
void Ops::do_add_vector(const Tensor&, const Tensor&) { lacking("such sum"); }
void Ops::do_clamp(const Tensor&, float) { lacking("clamping"); }
void Ops::do_match_rms(const Tensor&, const Tensor&, float) { lacking("matching of magnitudes"); }
void Ops::do_mix_streams(const Tensor&, int64_t, const Tensor&, const Tensor&) { lacking("several residual streams"); }
void Ops::do_add_positions(const Tensor&, int64_t, const Tensor&) { lacking("learned positions"); }
void Ops::do_qkv_variant(const QkvArgs&, const Tensor&, const KvView&, const Tensor&) {
  lacking("such preparation of queries and keys");
}
void Ops::do_attention_variant(const AttnArgs&, const Tensor&, const KvView&, const Tensor&) {
  lacking("such attention");
}
void Ops::do_latent_store(const LatentArgs&, const Tensor&, const Tensor&, const KvView&, const Tensor&) {
  lacking("latent attention");
}
void Ops::do_compress(const CompressArgs&, const Tensor&, const KvView&, const KvView&) {
  lacking("compressed attention");
}
void Ops::do_hyper_read(const HyperArgs&, const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  lacking("hyper-connections");
}
void Ops::do_hyper_write(const HyperArgs&, const Tensor&, const Tensor&, const Tensor&) {
  lacking("hyper-connections");
}
void Ops::do_select(const SelectArgs&, const Tensor&, const Tensor&, const KvView&, const Tensor&) {
  lacking("sparse indexer");
}
void Ops::do_route(const RouteArgs&, const Tensor&, const Routing&) { lacking("expert routing"); }
void Ops::do_experts(const Experts&, const Tensor&, const Routing&, const Tensor&) { lacking("experts"); }
void Ops::do_causal_conv(const ConvArgs&, const Tensor&, const KvView&) { lacking("convolution over tokens"); }
void Ops::do_decay(const DecayArgs&, const Tensor&, const Tensor&) { lacking("decay"); }
void Ops::do_recurrence(const RecurrenceArgs&, const RecurrenceInputs&, const KvView&, const Tensor&) {
  lacking("linear attention");
}
void Ops::do_selective_scan(const ScanArgs&, const ScanInputs&, const KvView&, const Tensor&) {
  lacking("selective scan");
}
void Ops::do_rg_lru(const LruArgs&, const Tensor&, const Tensor&, const Tensor&, const KvView&) { lacking("RG-LRU"); }
void Ops::do_token_shift(const Tensor&, const KvView&, int64_t, const Tensor&) { lacking("token shift"); }
void Ops::do_mix(const Tensor&, const Tensor&, const Tensor&, const Tensor&) { lacking("token mixing"); }
void Ops::do_wkv4(const WkvArgs&, const Tensor&, const Tensor&, const KvView&, const Tensor&) { lacking("WKV"); }

}  // namespace baize
