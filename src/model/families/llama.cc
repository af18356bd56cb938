// Llama 1 to 3 and the many checkpoints that share its architecture: Touvron et al. 2023, Llama 3 (2024).
#include "model/family.h"

namespace baize {

static ModelSpec llama(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  // GGUF converters of this architecture store query and key rows in the order of interleaved rotation.
  // Mistral's files are of this architecture too; some carry its window.
  for (LayerSpec& layer : spec.layers) {
    attn(layer).rope.interleaved = meta.gguf();
    if (meta.gguf()) attn(layer).window = meta.integer("sliding_window", 0);
  }
  if (meta.gguf() && meta.has("num_experts")) {  // Mixtral's files, too
    MoeFfn experts = moe_like(meta);
    experts.renormalise = true;
    use_experts(meta, spec, experts);
  }
  return spec;
}
FAMILY(llama, ("LlamaForCausalLM"), ("llama"));

}  // namespace baize
