// Doge (SmallDoge 2025): of the keys in sight a query sees those whose values ask for it most, and residuals have a
// learned factor a channel. Its mixtures of single-neuron experts are not computed.
#include "model/family.h"

namespace baize {

static ModelSpec doge(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  norm_qk(spec);
  for (LayerSpec& layer : spec.layers) {
    attn(layer).keep = meta.integer("keep_window_size", 2048);
    attn(layer).window = meta.integer("sliding_window", 0);
  }
  return spec;
}
FAMILY(doge, ("DogeForCausalLM"), ());
STORES(doge, "attn.residual.weight", "ffn.residual.weight");

}  // namespace baize
