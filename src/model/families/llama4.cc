// Llama 4 (Meta 2025): attention in chunks with rotation by neighbours, every fourth layer over everything without
// positions but with a temperature; experts whose weight multiplies their input. Aria (Li et al. 2024) and DBRX
// (Databricks 2024): experts in Llama's shape, stored in their own ways.
#include "model/family.h"

namespace baize {

static ModelSpec llama4(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  MoeFfn moe = moe_like(meta);
  moe.score = RouteArgs::Score::kSigmoid;
  moe.weigh_input = true;
  moe.transposed = !meta.gguf();
  moe.shared.ff = moe.expert.ff;
  const int64_t interval = meta.positive("no_rope_layer_interval", 4),
                step = meta.positive("interleave_moe_layer_step", 1);
  const bool maverick = meta.gguf() && moe.experts == 128;  // GGUF has no key for the missing norms
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    AttnSpec& a = attn(spec.layers[i]);
    const auto index = static_cast<int64_t>(i);
    if (meta.entry("no_rope_layers", index, (index + 1) % interval) != 0) {
      a.rope.interleaved = a.chunked = true;
      a.window = meta.integer("attention_chunk_size", 8192);
      if (meta.flag("use_qk_norm", !maverick)) {
        a.q_norm = a.k_norm = {.present = true, .eps = spec.final_norm.eps, .weightless = true};
        a.norm_last = true;
      }
    } else {
      a.rope = {};
      if (meta.flag("attn_temperature_tuning", true)) {
        a.temperature_scale = meta.number("attn_scale", 0.1f);
        a.temperature_length = std::max<int64_t>(1, meta.integer("floor_scale", 8192));
        a.temperature_offset = 1;
      }
    }
    const bool sparse = meta.has("moe_layers") ? meta.lists("moe_layers", index) : (index + 1) % step == 0;
    ffn(spec.layers[i]).ff = meta.integer("intermediate_size_mlp", moe.expert.ff);
    if (sparse) spec.layers[i].sub[1].block = moe;
  }
  return spec;
}
FAMILY(llama4, ("Llama4ForCausalLM", "Llama4ForConditionalGeneration"), ("llama4"));

static ModelSpec aria(const Meta& file) {
  const Meta meta = file.with_defaults({{"moe_num_shared_experts", 2}});
  ModelSpec spec = llama_like(meta);
  MoeFfn moe = moe_like(meta);
  moe.score = RouteArgs::Score::kLogit;
  moe.softmax_last = moe.transposed = true;
  moe.expert.activation = Activation::kSilu;  // "hidden_act" is the shared experts'
  use_experts(meta, spec, moe);
  return spec;
}
FAMILY(aria, ("AriaTextForCausalLM", "AriaForConditionalGeneration"), ());

static ModelSpec dbrx(const Meta& file) {
  const Meta meta = file.inner("attn_config").inner("ffn_config");
  ModelSpec spec = llama_like(meta.with_defaults({{"rms_norm_eps", 1e-5}}));
  for_each_norm(spec, [](NormSpec& norm) { norm.center = true; });
  MoeFfn moe = moe_like(meta.with_defaults({{"num_experts_per_tok", meta.integer("moe_top_k", 4)}}));
  moe.renormalise = meta.gguf() || meta.has("moe_normalize_expert_weights");
  moe.turned_down = !meta.gguf();
  for (LayerSpec& layer : spec.layers) {
    attn(layer).kv_heads = meta.integer("kv_n_heads", meta.gguf() ? attn(layer).kv_heads : 1);
    attn(layer).clip = meta.number("clip_qkv", 0);
  }
  use_experts(meta, spec, moe);
  return spec;
}
FAMILY(dbrx, ("DbrxForCausalLM"), ("dbrx"));

}  // namespace baize
