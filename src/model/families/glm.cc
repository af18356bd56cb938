// GLM-4 (Zeng et al. 2024): half of a head turns, neighbours together; GLM-4-0414: norms on both sides of the blocks.
// GLM-4.5 (2025): halves turn together, grouped experts. Ernie 4.5 (Baidu 2025): all of a head turns by neighbours,
// softmax experts with a bias for the choice.
#include "model/family.h"

namespace baize {

static ModelSpec neighbours(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  for (LayerSpec& layer : spec.layers) attn(layer).rope.interleaved = true;
  return spec;
}

static ModelSpec glm(const Meta& meta) { return neighbours(meta.with_defaults({{"partial_rotary_factor", 0.5}})); }
FAMILY(glm, ("GlmForCausalLM"), ("chatglm"));
STORES(glm, "attn.q.bias", "attn.k.bias", "attn.v.bias", "-attn.o.bias");

static ModelSpec glm4(const Meta& meta) {
  ModelSpec spec = glm(meta);
  for (LayerSpec& layer : spec.layers) sandwich(layer);
  return spec;
}
FAMILY(glm4, ("Glm4ForCausalLM"), ("glm4"));
STORES(glm4, "attn.q.bias", "attn.k.bias", "attn.v.bias", "-attn.o.bias");

static ModelSpec glm4_moe(const Meta& file) {
  const Meta meta = file.with_defaults({{"partial_rotary_factor", 0.5}});
  ModelSpec spec = llama_like(meta);
  if (meta.norms_queries("use_qk_norm")) norm_qk(spec);
  use_experts(meta, spec, sigmoid_moe(meta), 1);
  return spec;
}
FAMILY(glm4_moe, ("Glm4MoeForCausalLM"), ("glm4moe"));
STORES(glm4_moe, "moe.choice.bias", "-attn.o.bias");

static ModelSpec ernie4_5(const Meta& meta) {
  ModelSpec spec = neighbours(meta);
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  return spec;
}
FAMILY(ernie4_5, ("Ernie4_5ForCausalLM"), ("ernie4_5"));

static ModelSpec ernie4_5_moe(const Meta& meta) {
  ModelSpec spec = ernie4_5(meta);
  MoeFfn moe = moe_like(meta);
  moe.renormalise = true;
  const int64_t first = meta.integer("moe_layer_start_index", 1), step = meta.positive("moe_layer_interval", 1);
  const int64_t last = meta.integer("moe_layer_end_index", meta.layers() - 1);
  for (int64_t i = first; i <= last && i < meta.layers(); ++i) {
    if ((i + 1) % step == 0) spec.layers[static_cast<size_t>(i)].sub[1].block = moe;
  }
  return spec;
}
FAMILY(ernie4_5_moe, ("Ernie4_5_MoeForCausalLM"), ("ernie4_5-moe"));
STORES(ernie4_5_moe, "moe.choice.bias");

}  // namespace baize
