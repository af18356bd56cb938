// Mamba-2 and attention in turn: Bamba (IBM 2024), Granite 4 (2025: multipliers, experts, no positions), Nemotron-H
// (NVIDIA 2025: one block a layer).
#include "model/family.h"

namespace baize {

static bool is_recurrent(const Meta& meta, int64_t layer) {
  const std::string type = meta.text_at("layer_types", layer, "");
  if (!type.empty()) return type != "full_attention" && type != "attention";
  return !meta.lists("attn_layer_indices", layer);
}

static void use_recurrence(const Meta& meta, ModelSpec& spec) {
  RecurrenceSpec block = state_space_like(meta);
  block.norm_groups = 1;
  for (int64_t i = 0; i < meta.layers(); ++i) {
    if (is_recurrent(meta, i)) spec.layers[static_cast<size_t>(i)].sub[0].block = block;
  }
}

static ModelSpec bamba(const Meta& file) {
  const Meta meta = file.with_defaults({{"partial_rotary_factor", 0.5}});
  ModelSpec spec = llama_like(meta);
  use_recurrence(meta, spec);
  return spec;
}
FAMILY(bamba, ("BambaForCausalLM"), ());
STORES(bamba, "rec.conv.bias");

static ModelSpec granitemoehybrid(const Meta& meta) {
  ModelSpec spec = granite_like(meta);
  const bool rotates = meta.text("position_embedding_type", "") == "rope";
  MoeFfn moe = moe_like(meta.with_defaults({{"num_experts", 0}, {"num_experts_per_tok", 0}}));
  moe.renormalise = true;
  moe.shared.ff = meta.integer("shared_intermediate_size", 0);
  for (LayerSpec& layer : spec.layers) {
    if (!rotates) attn(layer).rope = {};
    if (moe.experts > 0) layer.sub[1].block = moe;
    if (moe.experts == 0) layer.sub[1].block = moe.shared;
  }
  use_recurrence(meta, spec);
  return spec;
}
FAMILY(granitemoehybrid, ("GraniteMoeHybridForCausalLM"), ());
STORES(granitemoehybrid, "rec.conv.bias");

static ModelSpec nemotron_h(const Meta& file) {
  const char* const list = file.has("layers_block_type") ? "layers_block_type" : "hybrid_override_pattern";
  const Meta meta = file.with_defaults({{"num_hidden_layers", file.count(list)},
                                        {"mamba_n_heads", file.integer("mamba_num_heads")},
                                        {"mamba_d_head", file.integer("mamba_head_dim")},
                                        {"mamba_n_groups", file.integer("n_groups", 1)},
                                        {"mamba_d_state", file.integer("ssm_state_size")},
                                        {"mamba_d_conv", file.integer("conv_kernel", 4)}});
  ModelSpec spec = llama_like(meta);
  spec.head.tied = false;  // whatever the configuration says
  const std::string inner = meta.text("mamba_hidden_act", "silu");
  RecurrenceSpec recurrence = state_space_like(meta.with_defaults({{"hidden_activation", inner}}));
  recurrence.least_step = meta.number("time_step_min", 0.001f);  // and time_step_limit is not read
  recurrence.most_step = RecurrenceSpec().most_step;
  const std::string pattern = meta.has("layers_block_type") ? "" : meta.text(list, "");
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    LayerSpec& layer = spec.layers[i];
    const std::string type = pattern.empty() ? meta.text_at(list, static_cast<int64_t>(i), "") : pattern.substr(i, 1);
    attn(layer).rope = {};
    DenseFfn& feed = ffn(layer);
    feed.gated = false;
    feed.activation = meta.activation("relu2");
    const bool attends = type == "full_attention" || type == "attention" || type == "*";
    const bool recurs = type == "linear_attention" || type == "mamba" || type == "M";
    if (recurs) layer.sub[0].block = recurrence;
    if (type == "moe" || type == "E") {
      MoeFfn moe = sigmoid_moe(meta);
      moe.expert.gated = moe.shared.gated = false;
      moe.expert.activation = moe.shared.activation = feed.activation;
      moe.shared.ff = meta.integer("moe_shared_expert_intermediate_size", moe.shared.ff);
      layer.sub[1].block = moe;
    }
    layer.sub = {layer.sub[attends || recurs ? 0 : 1]};
  }
  return spec;
}
FAMILY(nemotron_h, ("NemotronHForCausalLM"), ());
STORES(nemotron_h, "rec.conv.bias", "moe.choice.bias");

}  // namespace baize
