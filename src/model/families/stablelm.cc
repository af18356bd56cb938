// StableLM (Stability AI 2023): Llama with layer norms, optionally parallel and with a norm a head.
#include "model/family.h"

namespace baize {

static ModelSpec stablelm(const Meta& file) {
  const Meta meta = file.with_defaults({{"partial_rotary_factor", 0.25}});
  ModelSpec spec = layer_norm_like(meta, "silu");
  for (LayerSpec& layer : spec.layers) {
    ffn(layer).gated = true;
    AttnSpec& a = attn(layer);
    if (meta.norms_queries("qk_layernorm")) a.q_norm = a.k_norm = layer.sub[0].pre;
    a.norm_axis = Axis::kEachHead;
    layer.sub[1].parallel = meta.flag("use_parallel_residual", false);
    if (layer.sub[1].parallel) layer.sub[1].pre = {};
  }
  return spec;
}
FAMILY(stablelm, ("StableLmForCausalLM"), ("stablelm"));
STORES(stablelm, "attn.norm.bias", "ffn.norm.bias", "final_norm.bias");

}  // namespace baize
