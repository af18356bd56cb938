// Phi-3, Phi-3.5 and Phi-4: Abdin et al. 2024. Llama with q|k|v and gate|up stored as one matrix each, a sliding
// window, and longrope factors.
#include "model/family.h"

namespace baize {

static ModelSpec phi3(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  for (LayerSpec& layer : spec.layers) attn(layer).window = meta.integer("sliding_window", 0);
  return spec;
}
FAMILY(phi3, ("Phi3ForCausalLM"), ("phi3"));

}  // namespace baize
