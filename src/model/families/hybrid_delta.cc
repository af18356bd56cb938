// The gated delta rule and attention in turn: Qwen3-Next and Qwen3.5 (2025-2026: gated attention, experts), OLMo Hybrid
// (2026); Kimi Linear (2025): a decay a channel, latent attention without positions.
#include "model/family.h"

namespace baize {

static bool recurs(const Meta& meta, int64_t layer, int64_t period) {
  const std::string type = (layer + 1) % period == 0 ? "full_attention" : "linear_attention";
  return meta.text_at("layer_types", layer, type) == "linear_attention";
}

static ModelSpec qwen3_next(const Meta& file) {
  const Meta meta = file.with_defaults({{"partial_rotary_factor", 0.25}});
  ModelSpec spec = llama_like(meta);
  norm_qk(spec);
  for_each_norm(spec, [](NormSpec& norm) { norm.plus_one = true; });
  if (meta.integer("num_experts", 0) > 0) {
    MoeFfn moe = moe_like(meta);
    moe.renormalise = meta.flag("norm_topk_prob", true);
    moe.shared.ff = meta.integer("shared_expert_intermediate_size", 0);
    use_experts(meta, spec, moe);
  }
  const RecurrenceSpec recurrence = delta_like(meta);
  const int64_t period = meta.positive("full_attention_interval", 4);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    attn(spec.layers[i]).gate_in_q = true;
    if (recurs(meta, static_cast<int64_t>(i), period)) spec.layers[i].sub[0].block = recurrence;
  }
  return spec;
}
FAMILY(qwen3_next,
       ("Qwen3NextForCausalLM", "Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM", "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration"),
       ());
STORES(qwen3_next, "moe.shared.out_gate.weight", "rec.norm.weight");

static ModelSpec olmo_hybrid(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  norm_qk(spec, Axis::kAll);
  RecurrenceSpec recurrence = delta_like(meta);
  recurrence.norm.eps = 1e-5f;
  if (meta.flag("linear_allow_neg_eigval", true)) recurrence.beta_scale = 2;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (!meta.has("rope_parameters")) attn(spec.layers[i]).rope = {};
    if (recurs(meta, static_cast<int64_t>(i), 4)) {
      spec.layers[i].sub[0].block = recurrence;
    } else {
      norm_post(spec.layers[i]);
    }
  }
  return spec;
}
FAMILY(olmo_hybrid, ("OlmoHybridForCausalLM"), ());
STORES(olmo_hybrid, "rec.norm.weight");

static ModelSpec kimi_linear(const Meta& file) {
  const Meta old = file.inner("linear_attn_config");
  const Meta meta = file.with_defaults({{"linear_num_heads", old.integer("num_heads", 1)},
                                        {"linear_head_dim", old.integer("head_dim", 128)},
                                        {"linear_conv_kernel_dim", old.integer("short_conv_kernel_size", 4)}});
  ModelSpec spec = latent_like(meta);
  spec.head.tied = false;  // whatever the configuration says
  MoeFfn moe = sigmoid_moe(meta);
  moe.renormalise = meta.flag("moe_renormalize", true);
  use_experts(meta, spec, moe);
  RecurrenceSpec recurrence;
  recurrence.kind = RecurrenceSpec::Kind::kChannelDelta;
  recurrence.heads = recurrence.key_heads = recurrence.norm_groups = meta.integer("linear_num_heads");
  recurrence.key_dim = recurrence.value_dim = meta.integer("linear_head_dim");
  recurrence.conv = meta.integer("linear_conv_kernel_dim");
  recurrence.activation = meta.activation("silu");
  recurrence.norm = spec.final_norm;
  recurrence.norm_first = true;
  recurrence.gate = Activation::kSigmoid;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    const bool listed = old.lists("kda_layers", index + 1);  // counted from 1
    const std::string type = meta.text_at("layer_types", index, listed ? "linear_attention" : "full_attention");
    mla(spec.layers[i]).rope = {};
    if (type == "linear_attention") spec.layers[i].sub[0].block = recurrence;
  }
  return spec;
}
FAMILY(kimi_linear, ("KimiLinearForCausalLM"), ());
STORES(kimi_linear, "moe.choice.bias", "rec.z_up.weight");

}  // namespace baize
