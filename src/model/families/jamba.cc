// Jamba (Lieber et al. 2024): Mamba, attention without positions in some layers, experts in some.
#include "model/family.h"

namespace baize {

static ModelSpec jamba(const Meta& file) {
  ModelSpec spec = llama_like(file.with_defaults({{"max_position_embeddings", 262144}}));
  MambaSpec block{.width = file.integer("mamba_expand", 2) * spec.dims.hidden,
                  .state = file.integer("mamba_d_state", 16),
                  .rank = file.integer("mamba_dt_rank", (spec.dims.hidden + 15) / 16),
                  .conv = file.integer("mamba_d_conv", 4),
                  .activation = file.activation("silu")};
  block.inner_norm = spec.final_norm;
  const MoeFfn moe = moe_like(file);
  const auto every = [&](int64_t i, const char* period, const char* offset) {
    return i % file.positive(period, 1) == file.integer(offset, 0);
  };
  for (int64_t i = 0; i < file.layers(); ++i) {
    LayerSpec& layer = spec.layers[static_cast<size_t>(i)];
    attn(layer).rope = {};
    if (!every(i, "attn_layer_period", "attn_layer_offset")) layer.sub[0].block = block;
    if (moe.experts > 1 && every(i, "expert_layer_period", "expert_layer_offset")) layer.sub[1].block = moe;
  }
  return spec;
}
FAMILY(jamba, ("JambaForCausalLM"), ());
STORES(jamba, "rec.conv.bias", "rec.dt.bias");

}  // namespace baize
