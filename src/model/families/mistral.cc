// Mistral: Jiang et al. 2023. Llama with a sliding window in every layer; GGUF files of it call themselves llama.
// Ministral: windows in some layers; Ministral 3 (2025): YaRN, queries grow with the distance. Mixtral (2024): experts.
#include "model/family.h"

namespace baize {

static ModelSpec mistral(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  for (LayerSpec& layer : spec.layers) attn(layer).window = meta.integer("sliding_window", 0);
  return spec;
}
FAMILY(mistral, ("MistralForCausalLM"), ());
WRITTEN_AS(mistral, "llama");

static ModelSpec ministral(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  windows_by_type(meta, spec, [](int64_t) { return true; });
  return spec;
}
FAMILY(ministral, ("MinistralForCausalLM"), ());

static ModelSpec ministral3(const Meta& meta) {
  ModelSpec spec = mistral(meta);
  const Meta rope = meta.inner("rope_parameters");
  for (LayerSpec& layer : spec.layers) {
    attn(layer).temperature_scale = rope.number("llama_4_scaling_beta", 0);
    attn(layer).temperature_length = std::max<int64_t>(1, rope.integer("original_max_position_embeddings", 16384));
  }
  return spec;
}
FAMILY(ministral3, ("Ministral3ForCausalLM", "Mistral3ForConditionalGeneration"), ());

static ModelSpec mixtral(const Meta& meta) {
  ModelSpec spec = mistral(meta);
  MoeFfn moe = moe_like(meta);
  moe.renormalise = true;
  use_experts(meta, spec, moe);
  return spec;
}
FAMILY(mixtral, ("MixtralForCausalLM"), ());
WRITTEN_AS(mixtral, "llama");

// Phi-3.5-MoE (Abdin et al. 2024): layer norms, two experts chosen by SparseMixer.
static ModelSpec phimoe(const Meta& meta) {
  ModelSpec spec = mixtral(meta);
  for_each_norm(spec, [](NormSpec& norm) { norm.center = true; });
  for (LayerSpec& layer : spec.layers) moe(layer).sparse_mixer = meta.number("router_jitter_noise", 0.01f);
  return spec;
}
FAMILY(phimoe, ("PhimoeForCausalLM", "PhiMoEForCausalLM"), ("phimoe"));
STORES(phimoe, "attn.norm.bias", "ffn.norm.bias", "final_norm.bias");

}  // namespace baize
