// Mistral: Jiang et al. 2023. Llama with a sliding window in every layer; GGUF files of it call themselves llama.
#include "model/family.h"

namespace baize {

static ModelSpec mistral(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  for (LayerSpec& layer : spec.layers) attn(layer).window = meta.integer("sliding_window", 0);
  return spec;
}
FAMILY(mistral, ("MistralForCausalLM"), ());

}  // namespace baize
