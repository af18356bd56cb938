// Attention, plain and latent.
#include "base/mutate.h"
#include "model/blocks/blocks.h"

namespace baize {

namespace {

// Elements [begin, begin + count) of dimension 1 of a rank-3 tensor, or of dimension 2 of a rank-4 one.
Tensor heads_of(const Tensor& t, int64_t begin, int64_t count) {
  const int dim = t.shape.rank() - 2;
  Tensor part = t;
  part.shape = dim == 1 ? Shape{t.shape[0], count, t.shape[2]} : Shape{t.shape[0], t.shape[1], count, t.shape[3]};
  if (t.data != nullptr) {
    part.data = static_cast<char*>(t.data) + begin * t.strides[static_cast<size_t>(dim)] * dtype_bytes(t.dtype);
  }
  return part;
}

// Differential attention (Ye et al. 2024): both halves of the heads attend to both halves of the values; a pair's
// results lie side by side, and the second half's is subtracted.
void attend_differentially(const AttnBlock& block, const Step& step, const Tensor& q, const KvView& kv,
                           const Tensor& attended) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  AttnArgs args = block.args;
  args.shape.heads /= 2;
  args.shape.kv_heads /= 2;
  const int64_t pairs = args.shape.heads, width = 2 * block.v_dim;
  const Tensor minus = ops.temp(attended.dtype, {input.rows, pairs, width});
  const Tensor plus = ops.temp(attended.dtype, minus.shape);
  for (int64_t half = 0; half < 2; ++half) {
    for (int64_t values = 0; values < 2; ++values) {
      KvView view = kv;
      view.k = heads_of(kv.k, half * args.shape.kv_heads, args.shape.kv_heads);
      view.v = heads_of(kv.v, values * args.shape.kv_heads, args.shape.kv_heads);
      Tensor to = half == 0 ? plus : minus;
      to.shape = {input.rows, pairs, block.v_dim};
      if (to.data != nullptr) to.data = static_cast<char*>(to.data) + values * block.v_dim * dtype_bytes(to.dtype);
      ops.attention(args, heads_of(q, half * pairs, pairs), view, to);
    }
  }
  const Tensor sum = plus.reshaped({input.rows, pairs * width}), other = minus.reshaped(sum.shape);
  ops.scale(other, {}, mutated("attention.differential") ? 0 : -block.difference, other);
  ops.add(sum, other);
  const Tensor flat = attended.reshaped({input.rows * pairs, width});
  ops.norm(plus.reshaped({input.rows * pairs, width}), block.pair_norm, flat);
}

// Doge's dynamic mask: what the values `v` of this step add to the scores of their keys, beside the cached ones.
KvView store_mask(const AttnBlock::Mask& mask, const Step& step, const Tensor& v) {
  const int64_t rows = step.input.rows, heads = mask.from_values.shape.n;
  const KvView& cached = step.input.kv[mask.state];
  const Tensor raw = step.ops.temp(v.dtype, {rows, heads}), bias = step.ops.temp(DType::kF32, raw.shape);
  step.ops.linear({&mask.from_values, 1}, v, raw);
  step.ops.decay(mask.decay, raw, bias);
  step.ops.qk_norm_rope_store({.shape = {0, 1, heads}, .q_norm = {}, .k_norm = {}, .rope = {}}, bias, cached,
                              bias.reshaped({rows, 1, heads}));
  return cached;
}

}  // namespace

void run(const AttnBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  const AttnShape& s = block.args.shape;
  const KvView& kv = input.kv[block.state];
  const Tensor all = ops.temp(x.dtype, {input.rows, block.qkv.n()});
  const Tensor q = ops.temp(x.dtype, {input.rows, s.heads, s.head_dim});
  const Tensor attended = ops.temp(x.dtype, {input.rows, s.heads, block.v_dim});
  const Tensor flat = attended.reshaped({input.rows, s.heads * block.v_dim});
  const int64_t q_n = s.heads * s.head_dim, k_n = s.kv_heads * s.head_dim;
  ops.linear(block.qkv.span(), x, all);
  adapt(block.adapters, step, x, all);
  const Tensor qkv = block.gate_n > 0 ? all.columns(0, all.shape[1] - block.gate_n) : all;
  if (block.q_all.present()) ops.norm(qkv.columns(0, q_n), block.q_all, qkv.columns(0, q_n));
  if (block.k_all.present()) ops.norm(qkv.columns(q_n, k_n), block.k_all, qkv.columns(q_n, k_n));
  if (block.clip > 0) ops.clamp(qkv, block.clip);
  AttnArgs args = block.args;
  if (block.mask.from_values.present() && !mutated("attention.mask")) {
    args.key_bias = store_mask(block.mask, step, qkv.columns(q_n + k_n, s.kv_heads * block.v_dim));
    args.keep = block.mask.keep;
  }
  ops.qk_norm_rope_store(block.qkv_args, qkv, kv, q);
  if (block.difference != 0) {
    attend_differentially(block, step, q, kv, attended);
  } else {
    ops.attention(args, q, kv, attended);
  }
  if (block.gate_n > 0 && !mutated("attention.gate")) {
    ops.gate(flat, all.columns(all.shape[1] - block.gate_n, block.gate_n), block.gate);
  }
  if (block.out_norm.present()) ops.norm(flat, block.out_norm, flat);
  ops.linear({&block.o, 1}, flat, out);
}

void choose(const IndexerBlock& block, const Step& step, const IndexerInput& in) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  const Ops::Scope scope(ops);
  const auto& [heads, head_dim, top_k] = block.args;
  const int64_t own = block.k.present() ? head_dim : 0;  // of its key
  const Tensor both = ops.temp(in.x.dtype, {input.rows, heads * head_dim + own});
  const Tensor q = ops.temp(in.x.dtype, {input.rows, heads, head_dim});
  const Tensor weights = ops.temp(in.x.dtype, {input.rows, heads});
  ops.linear({&block.q, 1}, in.compressed, both.columns(0, heads * head_dim));
  if (own > 0) ops.linear({&block.k, 1}, in.x, both.columns(heads * head_dim, head_dim));
  ops.linear({&block.weights, 1}, in.x, weights);
  ops.qk_norm_rope_store(block.qkv_args, both, in.keys, q);
  ops.select(block.args, q, weights, in.keys, selected);
}

// Each row counts once for each of its experts, side by side: there all are experts of one matrix.
void run(const AttnExpertsBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  Ops& ops = step.ops;
  const int64_t rows = step.input.rows, top_k = block.route.top_k, hidden = x.shape[1];
  const auto& [heads, kv_heads, head_dim] = block.args.shape;
  const int64_t width = heads * head_dim;
  const KvView& kv = step.input.kv[block.state];
  const Tensor logits = ops.temp(x.dtype, {rows, block.router.shape.n});
  const Routing routing{ops.temp(DType::kI32, {rows, top_k}), ops.temp(DType::kF32, {rows, top_k})};
  ops.linear({&block.router, 1}, x, logits);
  ops.route(block.route, logits, routing);
  const Tensor ids = routing.ids.reshaped({rows * top_k, 1}), weights = routing.weights.reshaped(ids.shape);

  const Tensor wide = ops.temp(x.dtype, {rows, top_k * hidden});  // of x, and later of what comes back
  const Tensor each = wide.reshaped({rows * top_k, hidden});
  const Tensor queries = ops.temp(x.dtype, {rows * top_k, width});
  const Tensor qkv = ops.temp(x.dtype, {rows, (top_k + 2) * width});
  const Tensor q = ops.temp(x.dtype, {rows, top_k * heads, head_dim}), attended = ops.temp(x.dtype, q.shape);
  for (int64_t i = 0; i < top_k; ++i) ops.scale(x, {}, 1, wide.columns(i * hidden, hidden));
  ops.experts({.gate = {}, .up = block.q, .down = {}, .activation = {}}, each, {ids, {}}, queries);
  ops.scale(queries.reshaped({rows, top_k * width}), {}, 1, qkv.columns(0, top_k * width));
  ops.linear({&block.kv, 1}, x, qkv.columns(top_k * width, 2 * width));
  ops.qk_norm_rope_store(block.qkv_args, qkv, kv, q);
  for (int64_t i = 0; i < top_k; ++i) {
    ops.attention(block.args, heads_of(q, i * heads, heads), kv, heads_of(attended, i * heads, heads));
  }
  const Routing back{ids, mutated("attention.experts") ? Tensor() : weights};
  ops.experts({.gate = {}, .up = block.o, .down = {}, .activation = {}}, attended.reshaped(queries.shape), back, each);
  ops.scale(wide.columns(0, hidden), {}, 1, out);
  for (int64_t i = 1; i < top_k; ++i) ops.add(out, wide.columns(i * hidden, hidden));
  if (block.out_bias.present()) ops.add_vector(out, block.out_bias);
}

// Absorbed: queries are brought into the space of the compressed keys, and what is attended out of that of the values.
void run(const MlaBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  const auto& [heads, nope_dim, rope_dim, kv_rank, rope] = block.latent;
  const int64_t width = nope_dim + rope_dim, stored = kv_rank + rope_dim, rows = input.rows;
  const KvView& view = input.kv[block.state];
  const Tensor kv = ops.temp(x.dtype, {rows, stored});
  const Tensor queries = ops.temp(x.dtype, {rows, heads * width});
  const Tensor q = ops.temp(x.dtype, {rows, heads, stored});
  const Tensor latent = ops.temp(x.dtype, {rows, heads, kv_rank});
  const Tensor attended = ops.temp(x.dtype, {rows, heads * block.v_dim});
  Tensor source = x;
  if (block.q_a.present()) {
    source = ops.temp(x.dtype, {rows, block.q_a.shape.n});
    ops.linear({&block.q_a, 1}, x, source);
    if (block.q_norm.present()) ops.norm(source, block.q_norm, source);
  }
  ops.linear(block.q.span(), source, queries);
  ops.linear({&block.kv_a, 1}, x, kv);
  ops.norm(kv.columns(0, kv_rank), block.kv_norm, kv.columns(0, kv_rank));
  const Tensor flat_q = q.reshaped({rows, heads * stored}), flat = latent.reshaped({rows, heads * kv_rank});
  for (int64_t h = 0; h < heads; ++h) {
    ops.linear({&block.k_up[static_cast<size_t>(h)], 1}, queries.columns(h * width, nope_dim),
               flat_q.columns(h * stored, kv_rank));
  }
  ops.latent_store(block.latent, queries, kv, view, q);
  AttnArgs args = block.args;
  if (block.indexer.q.present()) choose(block.indexer, step, {x, source, input.kv[block.indexer.state]});
  if (block.sparse && !mutated("attention.selected")) args.selected = selected;
  ops.attention(args, q, view, latent);
  for (int64_t h = 0; h < heads; ++h) {
    ops.linear({&block.v_up[static_cast<size_t>(h)], 1}, flat.columns(h * kv_rank, kv_rank),
               attended.columns(h * block.v_dim, block.v_dim));
  }
  if (block.gate.present()) {
    const Tensor gate = ops.temp(x.dtype, attended.shape);
    ops.linear({&block.gate, 1}, x, gate);
    ops.gate(attended, gate, Activation::kSigmoid);
  }
  ops.linear({&block.o, 1}, attended, out);
}

}  // namespace baize
