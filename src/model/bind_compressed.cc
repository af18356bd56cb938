// Binding of attention over a window and compressed older text.
#include "base/mutate.h"
#include "model/binder.h"

namespace baize {

CompressorBlock Binder::compressor(const CompressedAttnSpec& spec, const std::string& stem, int64_t dim,
                                   int64_t layer) {
  CompressorBlock block;
  CompressArgs& args = block.args;
  args.rate = spec.rate;
  args.dim = dim;
  args.overlap = spec.overlap;
  const std::array<std::string, 2> own = {stem + ".kv", stem + ".gate"};
  const std::array<int64_t, 2> widths = {args.width(), args.width()};
  block.in = parts({own, stem + ".in", widths}, hidden(), layer);
  std::vector<float> bias = need_vector(stem + ".position.weight", spec.rate * args.width(), layer);
  if (mutated("compress.position")) bias.assign(bias.size(), 0);
  args.bias = store_.small(bias).reshaped({spec.rate, args.width()});
  args.norm = norm(spec.kv_norm, stem + ".norm", dim, layer);
  RopeSpec turned = spec.rope;
  if (turned.kind != RopeSpec::Kind::kNone) turned.offset = dim - turned.rot_dim;
  args.rope = rope(turned);
  return block;
}

CompressedAttnBlock Binder::bind_block(const CompressedAttnSpec& spec, int64_t layer, float scale) {
  CompressedAttnBlock block;
  const int64_t width = spec.heads * spec.head_dim, group = width / spec.o_groups;
  const Place place{.layer = layer};
  block.state = states_++;
  block.q_a = linear("mla.q_a", spec.q_rank, hidden(), place);
  block.q_norm = norm(spec.q_norm, "mla.q_norm", spec.q_rank, layer);
  block.q_b = linear("mla.q_b", width, spec.q_rank, place);
  block.kv = linear("shared_kv", spec.head_dim, hidden(), place);
  block.qkv_args.shape = {spec.heads, 1, spec.head_dim};
  block.qkv_args.q_norm = norm(spec.head_norm, "attn.q_norm", spec.head_dim, layer);
  block.qkv_args.k_norm = norm(spec.kv_norm, "shared_kv.norm", spec.head_dim, layer);
  block.qkv_args.rope = rope(spec.rope);
  RopeSpec back = spec.rope;
  back.backwards = !mutated("attention.turn_back");
  block.turn_back.shape = block.qkv_args.shape;
  block.turn_back.rope = rope(back);
  block.turn_back.store = false;
  block.args.shape = block.qkv_args.shape;
  block.args.scale = spec.scale;
  block.args.window = mutated("attention.window") ? 0 : spec.window;
  if (!mutated("attention.sinks")) block.args.sinks = small(vector("attn.sinks.weight", spec.heads, layer));
  if (spec.rate > 0) {
    states_ += 2;
    block.compressor = compressor(spec, "compress", spec.head_dim, layer);
  }
  if (spec.indexer.top_k > 0) {
    block.index_keys = compressor(spec, "index.compress", spec.indexer.head_dim, layer);
    block.indexer = indexer(spec.indexer, spec.q_rank, layer);
  }
  const SourceTensor& mixing =
      checked(names_.need("shared_kv.o_a.weight", layer), {spec.o_groups * spec.o_rank, group});
  for (int64_t g = 0; g < spec.o_groups; ++g) {
    const SourceTensor& rows = derived_.rows(mixing, g * spec.o_rank, spec.o_rank);
    block.o_a.push_back(linear_of(rows, "shared_kv.o_a", {.layer = layer, .expert = g}, {}));
  }
  block.o_b = linear("shared_kv.o_b", hidden(), spec.o_groups * spec.o_rank, {.layer = layer, .alpha = scale});
  return block;
}

}  // namespace baize
