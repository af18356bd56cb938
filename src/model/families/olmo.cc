// OLMo (Groeneveld et al. 2024): norms without weights, clipped q, k and v. OLMo 2 (2025): norms behind the blocks, q/k
// norms over all heads; OLMo 3: windows too. OLMoE (Muennighoff et al. 2024), FlexOlmo (2025): experts.
#include "model/family.h"

namespace baize {

static ModelSpec olmo(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  for_each_norm(spec, [](NormSpec& norm) {
    norm.center = norm.weightless = true;
    norm.eps = 1e-5f;
  });
  for (LayerSpec& layer : spec.layers) {
    attn(layer).clip = meta.number("clip_qkv", 0);
    attn(layer).rope.interleaved = meta.gguf();  // converters reorder the rows, as for Llama
  }
  return spec;
}
FAMILY(olmo, ("OlmoForCausalLM"), ("olmo"));

static bool sliding_of_four(int64_t layer) { return (layer + 1) % 4 != 0; }

static ModelSpec olmo2(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  for (LayerSpec& layer : spec.layers) norm_post(layer);
  norm_qk(spec, Axis::kAll);
  if (meta.gguf() && meta.has("sliding_window")) windows_by_type(meta, spec, sliding_of_four);  // OLMo 3's files
  return spec;
}
FAMILY(olmo2, ("Olmo2ForCausalLM"), ("olmo2"));

static ModelSpec olmo3(const Meta& meta) {
  ModelSpec spec = olmo2(meta);
  windows_by_type(meta, spec, sliding_of_four);
  return spec;
}
FAMILY(olmo3, ("Olmo3ForCausalLM"), ());
WRITTEN_AS(olmo3, "olmo2");

static ModelSpec olmoe(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  norm_qk(spec, Axis::kAll);
  for (LayerSpec& layer : spec.layers) attn(layer).clip = meta.number("clip_qkv", 0);
  use_experts(meta, spec, moe_like(meta));
  return spec;
}
FAMILY(olmoe, ("OlmoeForCausalLM"), ("olmoe"));

static ModelSpec flex_olmo(const Meta& meta) {
  ModelSpec spec = olmo2(meta);
  use_experts(meta, spec, moe_like(meta));
  return spec;
}
FAMILY(flex_olmo, ("FlexOlmoForCausalLM"), ());

}  // namespace baize
