// Granite 3 (IBM 2024): Llama with multipliers of the embedding, the scores, what is added, and the logits; with
// experts; with shared ones; with windows and sinks. HyperCLOVA X (Naver 2025) adds norms behind the blocks.
#include <cmath>

#include "model/family.h"

namespace baize {

ModelSpec granite_like(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  spec.embed.alpha = meta.number("embedding_multiplier", 1);
  spec.head.alpha = 1 / meta.number("logits_scaling", 1);
  for (LayerSpec& layer : spec.layers) {
    attn(layer).scale = meta.number("attention_multiplier", 1);
    attn(layer).rope.interleaved = meta.gguf();  // converters reorder the rows, as for Llama
    for (Sublayer& sub : layer.sub) sub.scale = meta.number("residual_multiplier", 1);
  }
  return spec;
}
static ModelSpec granite(const Meta& meta) { return granite_like(meta); }
FAMILY(granite, ("GraniteForCausalLM"), ("granite"));

static ModelSpec granitemoe(const Meta& meta) {
  ModelSpec spec = granite(meta);
  MoeFfn moe = moe_like(meta);
  moe.renormalise = true;
  moe.shared.ff = meta.integer("shared_intermediate_size", 0);
  use_experts(meta, spec, moe);
  return spec;
}
FAMILY(granitemoe, ("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"), ("granitemoe"));

static void windows_and_bases(const Meta& meta, ModelSpec& spec) {
  windows_by_type(meta, spec);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    AttnSpec& a = attn(spec.layers[i]);
    const float theta = meta.number_at("layer_rope_theta", static_cast<int64_t>(i), a.rope.theta);
    a.rope.theta = theta;
    if (theta == 0) a.rope = {};
  }
}

static ModelSpec granite_swa(const Meta& meta) {
  ModelSpec spec = granite(meta);
  windows_and_bases(meta, spec);
  return spec;
}
FAMILY(granite_swa, ("GraniteSWAForCausalLM"), ());
STORES(granite_swa, "attn.sinks.weight");

static ModelSpec granitemoe_swa(const Meta& meta) {
  ModelSpec spec = granitemoe(meta);
  windows_and_bases(meta, spec);
  return spec;
}
FAMILY(granitemoe_swa, ("GraniteMoeSWAForCausalLM"), ());
STORES(granitemoe_swa, "attn.sinks.weight");

static ModelSpec hyperclovax(const Meta& file) {
  const AttnSpec plain = attn(llama_like(file).layers[0]);
  ModelSpec spec = granite(file.with_defaults({{"attention_multiplier", plain.scale}}));
  spec.head.alpha = file.number("logits_scaling", 1);  // multiplies here
  for (LayerSpec& layer : spec.layers) {
    if (file.flag("use_post_norm", false)) sandwich(layer);
  }
  return spec;
}
FAMILY(hyperclovax, ("HyperCLOVAXForCausalLM"), ());

}  // namespace baize
