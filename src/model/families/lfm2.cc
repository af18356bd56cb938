// LFM2 (Liquid AI 2025): gated short convolutions in most layers, attention with q/k norms in the others; with experts.
#include <algorithm>

#include "model/family.h"

namespace baize {

static ModelSpec lfm2(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  spec.head.tied = !meta.gguf() && meta.flag("tie_word_embeddings", meta.flag("tie_embedding", true));
  norm_qk(spec);
  const ShortConvSpec conv{.width = spec.dims.hidden, .conv = meta.integer("conv_L_cache", 3)};
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    DenseFfn& feed = ffn(spec.layers[i]);
    if (meta.flag("block_auto_adjust_ff_dim", false)) {
      const int64_t two_thirds = 2 * feed.ff / 3;
      const float wide = meta.number("block_ffn_dim_multiplier", 1) * static_cast<float>(two_thirds);
      const int64_t step = meta.positive("block_multiple_of", 256);
      feed.ff = (static_cast<int64_t>(std::min(wide, 1e12f)) + step - 1) / step * step;
    }
    const bool no_keys = meta.gguf() && attn(spec.layers[i]).kv_heads == 0;
    if (no_keys || meta.text_at("layer_types", static_cast<int64_t>(i), "") == "conv")
      spec.layers[i].sub[0].block = conv;
  }
  return spec;
}
FAMILY(lfm2, ("Lfm2ForCausalLM"), ("lfm2"));

static ModelSpec lfm2_moe(const Meta& meta) {
  ModelSpec spec = lfm2(meta);
  MoeFfn moe = sigmoid_moe(meta);
  moe.norm_min = 1e-6f;
  use_experts(meta, spec, moe, meta.integer("num_dense_layers", 2));
  return spec;
}
FAMILY(lfm2_moe, ("Lfm2MoeForCausalLM"), ("lfm2moe"));
STORES(lfm2_moe, "moe.choice.bias");

}  // namespace baize
