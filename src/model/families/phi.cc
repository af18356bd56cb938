// Phi-1 to 2 (Gunasekar et al. 2023): GPT-J's shape with partial rotation by halves.
#include "model/family.h"

namespace baize {

static ModelSpec phi(const Meta& file) {
  const Meta meta = file.with_defaults({{"partial_rotary_factor", 0.5}});
  ModelSpec spec = layer_norm_like(meta, "gelu_new");
  for (LayerSpec& layer : spec.layers) {
    if (meta.norms_queries("qk_layernorm")) attn(layer).q_norm = attn(layer).k_norm = layer.sub[0].pre;
    layer.sub[1].parallel = true;
    layer.sub[1].pre = {};
  }
  return spec;
}
FAMILY(phi, ("PhiForCausalLM"), ("phi2"));
STORES(phi, "*.bias", "head.bias");

}  // namespace baize
