// EXAONE 4 (LG AI Research 2025): norms behind the blocks, q/k norms, windows in most layers, and positions only there.
// EXAONE-MoE: norms before the blocks again, and grouped experts.
#include "model/family.h"

namespace baize {

static void local_positions(const Meta& meta, ModelSpec& spec) {
  norm_qk(spec);
  windows_by_type(meta, spec, [](int64_t i) { return (i + 1) % 4 != 0; });
  for (LayerSpec& layer : spec.layers) {
    if (meta.has("sliding_window") && attn(layer).window == 0) attn(layer).rope = {};
  }
}

static ModelSpec exaone4(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  for (LayerSpec& layer : spec.layers) norm_post(layer);
  local_positions(meta, spec);
  return spec;
}
FAMILY(exaone4, ("Exaone4ForCausalLM"), ("exaone4"));

static ModelSpec exaone_moe(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  local_positions(meta, spec);
  use_experts(meta, spec, sigmoid_moe(meta), 1);
  return spec;
}
FAMILY(exaone_moe, ("ExaoneMoeForCausalLM", "ExaoneMoEForCausalLM"), ("exaone-moe"));
STORES(exaone_moe, "moe.choice.bias");

}  // namespace baize
