// Attention over a window and compressed older text.
#include "base/mutate.h"
#include "model/blocks/blocks.h"

namespace baize {

namespace {

// `count` values of each entry of a view, as keys that are their own values.
KvView part_of(const KvView& view, int64_t begin, int64_t count) {
  KvView part = view;
  part.k.shape = {view.k.shape[0], view.k.shape[1], 1, count};
  if (view.k.data != nullptr) part.k.data = static_cast<char*>(view.k.data) + begin * dtype_bytes(view.k.dtype);
  part.v = part.k;
  return part;
}

// The same without values: to store keys only.
KvView keys_of(const KvView& view) {
  KvView keys = view;
  keys.v.shape = {view.v.shape[0], view.v.shape[1], 1, 0};
  return keys;
}

void compress(const CompressorBlock& block, const Step& step, const Tensor& x, const KvView& recent,
              const KvView& entries) {
  const Ops::Scope scope(step.ops);
  const Tensor in = step.ops.temp(x.dtype, {step.input.rows, block.in.n()});
  step.ops.linear(block.in.span(), x, in);
  step.ops.compress(block.args, in, recent, entries);
}

// The older text that a row sees, brought up to date.
void add_entries(const CompressedAttnBlock& block, const Step& step, const Tensor& x, const Tensor& compressed,
                 AttnArgs& args) {
  const CompressArgs &own = block.compressor.args, &index = block.index_keys.args;
  const KvView &recent = step.input.kv[block.state + 1], &entries = step.input.kv[block.state + 2];
  args.entries = part_of(entries, 0, own.dim);
  compress(block.compressor, step, x, part_of(recent, 0, 2 * own.width()), args.entries);
  if (!block.indexer.q.present()) return;
  const KvView keys = keys_of(part_of(entries, own.dim, index.dim));
  compress(block.index_keys, step, x, part_of(recent, 2 * own.width(), 2 * index.width()), keys);
  choose(block.indexer, step, {x, compressed, keys});
  if (!mutated("attention.selected_entries")) args.selected = step.selected;
}

}  // namespace

void run(const CompressedAttnBlock& block, const Step& step, const Tensor& x, const Tensor& out) {
  auto& [input, ops, stream, layer_inputs, selected] = step;
  const auto& [heads, kv_heads, head_dim] = block.args.shape;
  const int64_t rows = input.rows, width = heads * head_dim, groups = std::ssize(block.o_a), group = width / groups;
  const KvView& view = input.kv[block.state];
  const Tensor compressed = ops.temp(x.dtype, {rows, block.q_a.shape.n});
  const Tensor both = ops.temp(x.dtype, {rows, width + head_dim});
  const Tensor q = ops.temp(x.dtype, {rows, heads, head_dim}), attended = ops.temp(x.dtype, q.shape);
  const Tensor mixed = ops.temp(x.dtype, {rows, block.o_b.shape.k});
  ops.linear({&block.q_a, 1}, x, compressed);
  ops.norm(compressed, block.q_norm, compressed);
  ops.linear({&block.q_b, 1}, compressed, both.columns(0, width));
  ops.linear({&block.kv, 1}, x, both.columns(width, head_dim));
  ops.qk_norm_rope_store(block.qkv_args, both, keys_of(view), q);
  AttnArgs args = block.args;
  if (block.compressor.args.rate > 0 && !mutated("attention.entries")) add_entries(block, step, x, compressed, args);
  ops.attention(args, q, view, attended);
  ops.qk_norm_rope_store(block.turn_back, attended.reshaped({rows, width}), view, q);
  const Tensor flat = q.reshaped({rows, width});
  for (int64_t g = 0; g < groups; ++g) {
    const Linear& o_a = block.o_a[static_cast<size_t>(g)];
    ops.linear({&o_a, 1}, flat.columns(g * group, group), mixed.columns(g * o_a.shape.n, o_a.shape.n));
  }
  ops.linear({&block.o_b, 1}, mixed, out);
}

}  // namespace baize
