// Mamba (Gu & Dao 2023), Falcon Mamba (2024: norms of the step size, B and C), Mamba-2 (Dao & Gu 2024).
#include "model/family.h"

namespace baize {

constexpr int64_t kNoLimit = 131072;  // these have no longest text; the engine needs one

static ModelSpec mamba1(const Meta& file) {
  const Meta meta = file.with_defaults({{"max_position_embeddings", kNoLimit}, {"rms_norm_eps", 1e-5}});
  ModelSpec spec = layers_like(meta);
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  const MambaSpec block{.width = meta.integer("intermediate_size", 2 * spec.dims.hidden),
                        .state = meta.integer("state_size", 16),
                        .rank = meta.integer("time_step_rank", (spec.dims.hidden + 15) / 16),
                        .conv = meta.integer("conv_kernel", 4),
                        .activation = meta.activation("silu")};
  for (LayerSpec& layer : spec.layers) layer.sub = {{.pre = spec.final_norm, .block = block}};
  return spec;
}
FAMILY(mamba1, ("MambaForCausalLM"), ());
STORES(mamba1, "rec.conv.bias", "rec.dt.bias");

static ModelSpec falcon_mamba(const Meta& meta) {
  ModelSpec spec = mamba1(meta);
  for (LayerSpec& layer : spec.layers) {
    std::get<MambaSpec>(layer.sub[0].block).inner_norm = {
        .present = true, .eps = meta.number("mixer_rms_eps", 1e-6f), .weightless = true};
  }
  return spec;
}
FAMILY(falcon_mamba, ("FalconMambaForCausalLM"), ());
STORES(falcon_mamba, "rec.conv.bias", "rec.dt.bias");

static ModelSpec mamba2(const Meta& file) {
  const Meta meta = file.with_defaults({{"max_position_embeddings", kNoLimit},
                                        {"mamba_n_heads", file.integer("num_heads", 0)},
                                        {"mamba_d_head", file.integer("head_dim", 64)},
                                        {"mamba_n_groups", file.integer("n_groups", 1)},
                                        {"mamba_d_state", file.integer("state_size", 128)},
                                        {"mamba_d_conv", file.integer("conv_kernel", 4)},
                                        {"rms_norm_eps", 1e-5}});
  ModelSpec spec = layers_like(meta);
  RecurrenceSpec block = state_space_like(meta);
  block.norm_groups = 1;
  for (LayerSpec& layer : spec.layers) layer.sub = {{.pre = spec.final_norm, .block = block}};
  return spec;
}
FAMILY(mamba2, ("Mamba2ForCausalLM"), ());
STORES(mamba2, "rec.conv.bias");

}  // namespace baize
