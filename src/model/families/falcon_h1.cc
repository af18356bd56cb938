// Falcon-H1 (TII 2025): Mamba-2 and attention read the same norm in every layer; multipliers everywhere.
#include "model/family.h"

namespace baize {

static ModelSpec falcon_h1(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  spec.embed.alpha = meta.number("embedding_multiplier", 1);
  spec.head.alpha = meta.number("lm_head_multiplier", 1);
  RecurrenceSpec recurrence = state_space_like(meta);
  recurrence.in_scale = meta.number("ssm_in_multiplier", 1);
  for (int64_t i = 0; i < 5; ++i) recurrence.in_factors.push_back(meta.number_at("ssm_multipliers", i, 1));
  recurrence.norm.present = meta.flag("mamba_rms_norm", false);
  recurrence.norm_first = meta.flag("mamba_norm_before_gate", true);
  for (LayerSpec& layer : spec.layers) {
    AttnSpec& a = attn(layer);
    const float in = meta.number("attention_in_multiplier", 1);
    a.scale *= in;
    a.k_scale = in * meta.number("key_multiplier", 1);
    a.v_scale = in;
    ffn(layer).gate_scale = meta.number_at("mlp_multipliers", 0, 1);
    ffn(layer).down_scale = meta.number_at("mlp_multipliers", 1, 1);
    layer.sub[0].scale = meta.number("attention_out_multiplier", 1);
    layer.sub.insert(layer.sub.begin() + 1, {.block = recurrence, .parallel = true});
    layer.sub[1].scale = meta.number("ssm_out_multiplier", 1);
  }
  return spec;
}
FAMILY(falcon_h1, ("FalconH1ForCausalLM"), ());
STORES(falcon_h1, "rec.conv.bias");

}  // namespace baize
