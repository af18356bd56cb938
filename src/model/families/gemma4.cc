// Gemma 4 (2026): norms with their 1, norms of values without weights, scores not scaled, wider
// heads where attention sees everything, of which only some pairs turn, and a factor at the end of each layer. Where
// there are experts, they stand beside the dense feed-forward.
#include <cmath>

#include "model/family.h"

namespace baize {

// Router, experts and dense feed-forward read the same through norms of their own.
static MoeFfn experts_beside(const Meta& meta, const ModelSpec& spec, const DenseFfn& dense) {
  MoeFfn moe = moe_like(meta);
  moe.shared = dense;
  moe.expert.activation = dense.activation;
  moe.renormalise = true;
  moe.router_scale = 1 / std::sqrt(static_cast<float>(spec.dims.hidden));
  moe.router_norm = moe.routed_norm = moe.routed_post = moe.shared_post = spec.final_norm;
  return moe;
}

static ModelSpec gemma4(const Meta& file) {
  const Meta meta = file.with_defaults({{"head_dim", 256}});
  ModelSpec spec = llama_like(meta);
  spec.embed.alpha = std::sqrt(static_cast<float>(spec.dims.hidden));
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  spec.head.softcap = meta.number("final_logit_softcapping", 0);
  spec.embed.layer_inputs = meta.integer("hidden_size_per_layer_input", 0);
  norm_qk(spec);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    LayerSpec& layer = spec.layers[i];
    const auto index = static_cast<int64_t>(i);
    const std::string type = meta.layer_type(index, (index + 1) % 6 != 0 ? "sliding_attention" : "full_attention");
    const Meta own = meta.inner("per_layer_config").inner(std::to_string(i));
    AttnSpec& a = attn(layer);
    const bool full = type == "full_attention";
    const bool listed = meta.has("per_layer_config");
    a.head_dim = own.integer(!listed && full && meta.has("global_head_dim") ? "global_head_dim" : "head_dim");
    // Two spellings: a configuration of its own for every layer, or keys of their own for the layers that see
    // everything.
    const bool other_heads = !listed && full && meta.flag("attention_k_eq_v", false);
    a.kv_heads = own.integer(
        other_heads && own.has("num_global_key_value_heads") ? "num_global_key_value_heads" : "num_key_value_heads",
        a.kv_heads);
    a.scale = 1;
    if (!full) a.window = meta.integer("sliding_window", 512);
    a.rope = meta.rope(a.head_dim, type);
    a.values_are_keys = full && meta.flag("attention_k_eq_v", false);
    a.v_norm = spec.final_norm;
    a.v_norm.weightless = true;
    sandwich(layer);
    layer.scaled = true;
    const Activation activation = ffn(layer).activation = meta.activation("gelu_pytorch_tanh");
    if (meta.flag("enable_moe_block", false)) layer.sub.back().block = experts_beside(meta, spec, ffn(layer));
    if (spec.embed.layer_inputs == 0) continue;
    layer.sub.push_back({.block = LayerInputSpec{spec.embed.layer_inputs, activation}, .post = spec.final_norm});
  }
  return spec;
}
FAMILY(gemma4, ("Gemma4ForCausalLM", "Gemma4UnifiedForCausalLM", "Gemma4ForConditionalGeneration"), ());
STORES(gemma4, "layer.scale.weight", "moe.expert_scale.weight");

}  // namespace baize
