// GPT-NeoX and Pythia (Black et al. 2022; Biderman et al. 2023): partial rotation, parallel branches with norms of
// their own. Its Japanese variant has no biases but the last layer's and no parallel branches. Persimmon (Adept 2023)
// adds q/k layer norms.
#include "model/family.h"

namespace baize {

static void fused_by_head(ModelSpec& spec) {
  for (LayerSpec& layer : spec.layers) attn(layer).layout.groups = attn(layer).heads;
}

static ModelSpec gpt_neox(const Meta& file) {
  const Meta meta = file.with_defaults({{"partial_rotary_factor", file.number("rotary_pct", 0.25f)}});
  ModelSpec spec = layer_norm_like(meta, "gelu");
  if (!meta.gguf()) fused_by_head(spec);
  const bool parallel = meta.flag("use_parallel_residual", true);
  for (LayerSpec& layer : spec.layers) layer.sub[1].parallel = parallel;
  return spec;
}
FAMILY(gpt_neox, ("GPTNeoXForCausalLM"), ("gptneox"));
STORES(gpt_neox, "*.bias");

static ModelSpec gpt_neox_japanese(const Meta& file) {
  const int64_t wide = file.integer("hidden_size") * file.integer("intermediate_multiple_size", 4);
  ModelSpec spec = layer_norm_like(file.with_defaults({{"intermediate_size", wide}}), "gelu");
  fused_by_head(spec);
  return spec;
}
FAMILY(gpt_neox_japanese, ("GPTNeoXJapaneseForCausalLM"), ());
STORES(gpt_neox_japanese, "attn.norm.bias", "ffn.norm.bias", "final_norm.bias");

static ModelSpec persimmon(const Meta& file) {
  const Meta meta = file.with_defaults({{"partial_rotary_factor", 0.5}});
  ModelSpec spec = layer_norm_like(meta, "relu2");
  fused_by_head(spec);
  for (LayerSpec& layer : spec.layers) {
    if (meta.flag("qk_layernorm", true)) attn(layer).q_norm = attn(layer).k_norm = layer.sub[0].pre;
  }
  return spec;
}
FAMILY(persimmon, ("PersimmonForCausalLM"), ());
STORES(persimmon, "*.bias");

}  // namespace baize
