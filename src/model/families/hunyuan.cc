// Hunyuan (Tencent 2024-2025): q/k norms after the rotation; experts beside one that every token passes. HY 3: q/k
// norms before it, sigmoid experts.
#include "model/family.h"

namespace baize {

static ModelSpec hunyuan(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  norm_qk(spec);
  for (LayerSpec& layer : spec.layers) attn(layer).norm_last = true;
  return spec;
}
FAMILY(hunyuan, ("HunYuanDenseV1ForCausalLM"), ("hunyuan-dense"));

static ModelSpec hunyuan_moe(const Meta& meta) {
  ModelSpec spec = hunyuan(meta);
  MoeFfn moe = moe_like(meta.with_defaults({{"num_shared_experts", 1}}));
  moe.renormalise = true;
  use_experts(meta, spec, moe);
  return spec;
}
FAMILY(hunyuan_moe, ("HunYuanMoEV1ForCausalLM"), ("hunyuan-moe"));

static ModelSpec hy_v3(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  norm_qk(spec);
  use_experts(meta, spec, sigmoid_moe(meta), 1);
  return spec;
}
FAMILY(hy_v3, ("HYV3ForCausalLM"), ());
STORES(hy_v3, "moe.choice.bias");

}  // namespace baize
