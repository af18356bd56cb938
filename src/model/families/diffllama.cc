// DiffLlama (2024): Llama with differential attention (Ye et al. 2024).
#include <cmath>

#include "model/family.h"

namespace baize {

static ModelSpec diffllama(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    AttnSpec& a = attn(spec.layers[i]);
    a.differential = 0.8f - 0.6f * std::exp(-0.3f * static_cast<float>(i));
    a.out_norm = spec.final_norm;
  }
  return spec;
}
FAMILY(diffllama, ("DiffLlamaForCausalLM"), ());

}  // namespace baize
