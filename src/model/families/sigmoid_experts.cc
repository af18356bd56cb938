// Llama's shape with DeepSeek-V3's router: dots.llm1 (2025), Solar Open (2026), MiniMax-M2 (2025), AFMoE (Arcee 2025),
// Laguna (Poolside 2026), MiMo-V2-Flash (Xiaomi 2025). They differ in norms, windows, gates and sinks.
#include <cmath>

#include "model/family.h"

namespace baize {

static ModelSpec dots1(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  norm_qk(spec);
  windows_by_type(meta, spec);
  use_experts(meta, spec, sigmoid_moe(meta.with_defaults({{"norm_topk_prob", false}})));
  return spec;
}
FAMILY(dots1, ("Dots1ForCausalLM"), ("dots1"));
STORES(dots1, "moe.choice.bias");

static ModelSpec solar_open(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  use_experts(meta, spec, sigmoid_moe(meta));
  return spec;
}
FAMILY(solar_open, ("SolarOpenForCausalLM"), ());
STORES(solar_open, "moe.choice.bias");

static ModelSpec minimax_m2(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  norm_qk(spec, Axis::kAll);
  if (!meta.has("rope_parameters")) {  // else those say it
    for (LayerSpec& layer : spec.layers) {
      attn(layer).rope.rot_dim = meta.integer("rotary_dim", attn(layer).rope.rot_dim);
    }
  }
  use_experts(meta, spec, sigmoid_moe(meta));
  return spec;
}
FAMILY(minimax_m2, ("MiniMaxM2ForCausalLM"), ("minimax-m2"));
STORES(minimax_m2, "moe.choice.bias");

static ModelSpec afmoe(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  if (meta.flag("mup_enabled", false)) spec.embed.alpha = std::sqrt(static_cast<float>(spec.dims.hidden));
  norm_qk(spec);
  const int64_t period = meta.positive("global_attn_every_n_layers", 4);
  windows_by_type(meta, spec, [=](int64_t i) { return (i + 1) % period != 0; });
  for (LayerSpec& layer : spec.layers) {
    sandwich(layer);
    if (attn(layer).window == 0) attn(layer).rope = {};
  }
  MoeFfn moe = sigmoid_moe(meta);
  moe.renormalise = true;
  use_experts(meta, spec, moe, meta.integer("num_dense_layers", 0));
  return spec;
}
FAMILY(afmoe, ("AfmoeForCausalLM"), ());
STORES(afmoe, "moe.choice.bias", "attn.gate.weight");

static ModelSpec laguna(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  norm_qk(spec);
  windows_by_type(meta, spec);
  MoeFfn moe = sigmoid_moe(meta);
  moe.renormalise = true;
  moe.shared.ff = meta.integer("shared_expert_intermediate_size", 0);
  moe.router_softcap = meta.number("moe_router_logit_softcapping", 0);
  use_experts(meta, spec, moe);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    AttnSpec& a = attn(spec.layers[i]);
    a.heads = meta.entry("num_attention_heads_per_layer", static_cast<int64_t>(i), a.heads);
    a.gate = Activation::kSoftplus;
  }
  return spec;
}
FAMILY(laguna, ("LagunaForCausalLM"), ());
STORES(laguna, "moe.choice.bias", "attn.gate.weight");

static ModelSpec mimo_v2_flash(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  windows_by_type(meta, spec, [&](int64_t i) { return meta.entry("hybrid_layer_pattern", i, 0) == 1; });
  for (LayerSpec& layer : spec.layers) {
    AttnSpec& a = attn(layer);
    if (a.window > 0) {
      a.kv_heads = meta.integer("swa_num_key_value_heads", 2 * a.kv_heads);
      a.rope.theta = meta.number("swa_rope_theta", a.rope.theta);
    }
    a.v_dim = meta.integer("v_head_dim", a.head_dim);
    a.v_scale = meta.number("attention_value_scale", 1);
  }
  use_experts(meta, spec, sigmoid_moe(meta), 1);
  return spec;
}
FAMILY(mimo_v2_flash, ("MiMoV2FlashForCausalLM"), ());
STORES(mimo_v2_flash, "moe.choice.bias", "attn.sinks.weight");

}  // namespace baize
