// Blocks with a state of fixed size: linear attention with decay, Mamba, short convolutions, RG-LRU, RWKV-4.
#include "base/mutate.h"
#include "model/blocks/blocks.h"

namespace baize {

// The projections fill [conv channels: q|k|v in the order of `order`] [z] [b] [a], as far as the kind has them.
void run(const RecurrenceBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  const KvView& state = input.kv[block.state];
  const RecurrenceArgs& args = block.args;
  const int64_t rows = input.rows, values = args.heads * args.value_dim, keys = args.key_heads * args.key_dim;
  const Tensor all = ops.temp(x.dtype, {rows, block.in.n()});
  ops.linear(block.in.span(), x, all);
  if (block.in_scale.present()) ops.scale(all, block.in_scale, 1, all);
  const auto part = [&](const Columns& c) { return all.columns(c.begin, c.count); };
  const Tensor mixed = all.columns(block.q.begin < block.v.begin ? block.q.begin : block.v.begin, 2 * keys + values);
  if (block.conv.width > 0) {
    ops.causal_conv(block.conv, mixed, state);
  } else if (block.conv.activation != Activation::kIdentity) {
    ops.activate({.kind = block.conv.activation}, mixed, mixed);
  }
  RecurrenceInputs in{part(block.q), part(block.k), part(block.v), {}, {}};
  if (block.a.count > 0) {
    Tensor a = part(block.a);
    if (block.a_up.present()) {
      a = ops.temp(x.dtype, {rows, block.a_up.shape.n});
      ops.linear({&block.a_up, 1}, part(block.a), a);
    }
    in.decay = ops.temp(DType::kF32, a.shape);
    ops.decay(block.decay, a, in.decay);
    if (block.b.count == 0) in.beta = a;  // the step size weighs what enters
  }
  if (block.b.count > 0) {
    in.beta = part(block.b);
    ops.activate({.kind = Activation::kSigmoid}, in.beta, in.beta);
    if (block.beta_scale != 1) ops.scale(in.beta, {}, block.beta_scale, in.beta);
  }
  const Tensor y = ops.temp(x.dtype, {rows, values});
  ops.recurrence(args, in, state, y);
  Tensor z = part(block.z);
  if (block.z_up.present()) {
    z = ops.temp(x.dtype, {rows, values});
    ops.linear({&block.z_up, 1}, part(block.z), z);
  }
  if (!block.norm_first) ops.gate(y, z, block.gate);
  const int64_t groups = block.norm_groups;
  const Tensor grouped = y.reshaped({rows * groups, values / groups});
  if (block.norm.present() && block.norm.weight.shape[0] == values / groups) {
    ops.norm(grouped, block.norm, grouped);
  } else if (block.norm.present()) {  // a weight a channel of all groups
    ops.norm(grouped, block.ones, grouped);
    ops.scale(y, block.norm.weight, 1, y);
  }
  if (block.norm_first) ops.gate(y, z, block.gate);
  ops.linear({&block.o, 1}, y, out);
}

void run(const MambaBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  const KvView& state = input.kv[block.state];
  const int64_t rows = input.rows, width = block.out.shape.k, rank = block.rank;
  const auto heads = static_cast<int64_t>(block.heads.size());
  const int64_t n = block.heads[0].scan.state, each = width / heads;
  const Tensor both = ops.temp(x.dtype, {rows, 2 * width});
  const Tensor low = ops.temp(x.dtype, {rows, rank + 2 * n});
  const Tensor dt = ops.temp(x.dtype, {rows, each});
  const Tensor y = ops.temp(x.dtype, {rows, width});
  ops.linear({&block.in, 1}, x, both);
  const Tensor inner = both.columns(0, width);
  ops.causal_conv(block.conv, inner, state);
  const Tensor parts[] = {low.columns(0, rank), low.columns(rank, n), low.columns(rank + n, n)};
  for (int64_t h = 0; h < heads; ++h) {
    const MambaBlock::Head& head = block.heads[static_cast<size_t>(h)];
    const Tensor own = inner.columns(h * each, each);
    ops.linear({&head.low, 1}, own, low);
    for (size_t i = 0; i < 3; ++i) {
      if (block.norms[i].present()) ops.norm(parts[i], block.norms[i], parts[i]);
    }
    ops.linear({&head.dt, 1}, parts[0], dt);
    ops.selective_scan(head.scan, {own, dt, parts[1], parts[2]}, state, y.columns(h * each, each));
  }
  ops.gate(y, both.columns(width, width), Activation::kSilu);
  ops.linear({&block.out, 1}, y, out);
}

void run(const ShortConvBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  const int64_t width = block.out.shape.k;
  const Tensor all = ops.temp(x.dtype, {input.rows, 3 * width});
  ops.linear({&block.in, 1}, x, all);
  const Tensor value = all.columns(2 * width, width);
  ops.gate(value, all.columns(0, width), Activation::kIdentity);
  ops.causal_conv(block.conv, value, input.kv[block.state]);
  ops.gate(value, all.columns(width, width), Activation::kIdentity);
  ops.linear({&block.out, 1}, value, out);
}

void run(const LruBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  const KvView& state = input.kv[block.state];
  const int64_t width = block.out.shape.k, blocks = static_cast<int64_t>(block.input_gate.size());
  const int64_t each = width / blocks;
  const Tensor y = ops.temp(x.dtype, {input.rows, width}), inner = ops.temp(x.dtype, y.shape);
  const Tensor enter = ops.temp(x.dtype, y.shape), keep = ops.temp(x.dtype, y.shape);
  ops.linear({&block.y, 1}, x, y);
  ops.linear({&block.x, 1}, x, inner);
  ops.causal_conv(block.conv, inner, state);
  for (int64_t b = 0; b < blocks; ++b) {
    const Tensor own = inner.columns(b * each, each);
    ops.linear({&block.input_gate[static_cast<size_t>(b)], 1}, own, enter.columns(b * each, each));
    ops.linear({&block.decay_gate[static_cast<size_t>(b)], 1}, own, keep.columns(b * each, each));
  }
  ops.rg_lru(block.lru, inner, enter, keep, state);
  ops.gate(inner, y, block.activation);
  ops.linear({&block.out, 1}, inner, out);
}

void run(const RwkvBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  const KvView& state = input.kv[block.state];
  const Tensor before = ops.temp(x.dtype, x.shape), mixed = ops.temp(x.dtype, x.shape);
  const Tensor r = ops.temp(x.dtype, {input.rows, block.receptance.shape.n});
  const Tensor k = ops.temp(x.dtype, {input.rows, block.key.shape.n});
  ops.token_shift(x, state, 0, before);
  ops.mix(x, before, block.mix_r, mixed);
  ops.linear({&block.receptance, 1}, mixed, r);
  ops.mix(x, before, block.mix_k, mixed);
  ops.linear({&block.key, 1}, mixed, k);
  if (!block.time) {  // the feed-forward: squared ReLU, gated
    ops.activate({.kind = Activation::kRelu2}, k, k);
    ops.linear({&block.value, 1}, k, out);
    ops.gate(out, r, Activation::kSigmoid);
    return;
  }
  const Tensor v = ops.temp(x.dtype, k.shape), y = ops.temp(x.dtype, k.shape);
  ops.mix(x, before, block.mix_v, mixed);
  ops.linear({&block.value, 1}, mixed, v);
  ops.wkv4(block.wkv, k, v, state, y);
  ops.gate(y, r, Activation::kSigmoid);
  ops.linear({&block.output, 1}, y, out);
}

}  // namespace baize
