// NanoChat (2025): Llama's shape with norms without weights, q/k norms behind a rotation the other way round.
#include "model/family.h"

namespace baize {

static ModelSpec nanochat(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  spec.head.softcap = meta.number("final_logit_softcapping", 0);
  for_each_norm(spec, [](NormSpec& norm) { norm.weightless = true; });
  spec.embed.norm = spec.final_norm;
  norm_qk(spec);
  for (LayerSpec& layer : spec.layers) {
    attn(layer).norm_last = true;
    attn(layer).rope.backwards = true;
    ffn(layer).gated = false;
    ffn(layer).activation = meta.activation("relu2");
  }
  return spec;
}
FAMILY(nanochat, ("NanoChatForCausalLM"), ());

}  // namespace baize
