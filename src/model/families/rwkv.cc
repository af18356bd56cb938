// RWKV-4 (Peng et al. 2023): no attention.
#include "model/family.h"

namespace baize {

static ModelSpec rwkv4(const Meta& file) {
  ModelSpec spec = layers_like(file.with_defaults({{"max_position_embeddings", 131072}, {"rms_norm_eps", 1e-5}}));
  spec.final_norm.center = true;
  spec.embed.norm = spec.final_norm;
  spec.final_norm.eps = 1e-5f;
  RwkvSpec time{.hidden = spec.dims.hidden, .width = file.integer("attention_hidden_size", spec.dims.hidden)};
  time.time = true;
  const NormSpec before = spec.embed.norm;
  const RwkvSpec channel{.hidden = spec.dims.hidden, .width = file.integer("intermediate_size", 4 * spec.dims.hidden)};
  for (LayerSpec& layer : spec.layers) {
    layer.sub = {{.pre = before, .block = time}, {.pre = before, .block = channel}};
  }
  return spec;
}
FAMILY(rwkv4, ("RwkvForCausalLM"), ());
STORES(rwkv4, "attn.norm.bias", "ffn.norm.bias", "final_norm.bias", "embed.norm.bias");

}  // namespace baize
