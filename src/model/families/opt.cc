// OPT (Zhang et al. 2022), BioGPT (Luo et al. 2022) and XGLM (Lin et al. 2021), the decoders of fairseq: positions from
// a table that begins two rows later, learned or sinusoidal; small OPTs norm after the sum and have a narrow table.
#include <cmath>

#include "model/family.h"

namespace baize {

static ModelSpec fairseq_like(const Meta& meta, const char* activation) {
  ModelSpec spec = layer_norm_like(meta, activation);
  spec.embed.positions = EmbedSpec::Positions::kLearned;
  spec.embed.position_offset = 2;
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  if (meta.flag("scale_embedding", false)) spec.embed.alpha = std::sqrt(static_cast<float>(spec.dims.hidden));
  for (LayerSpec& layer : spec.layers) attn(layer).rope = {};
  return spec;
}

static ModelSpec opt(const Meta& meta) {
  ModelSpec spec = fairseq_like(meta, "relu");
  spec.embed.width = meta.integer("word_embed_proj_dim", spec.dims.hidden);
  const bool weightless = !meta.flag("layer_norm_elementwise_affine", true);
  for_each_norm(spec, [&](NormSpec& norm) { norm.weightless = weightless; });
  const bool before = meta.flag("do_layer_norm_before", true);
  if (before && !meta.flag("_remove_final_layer_norm", false)) return spec;
  spec.final_norm = {};
  for (LayerSpec& layer : spec.layers) {
    if (!before) norm_after(layer);
  }
  return spec;
}
FAMILY(opt, ("OPTForCausalLM"), ());
STORES(opt, "*.bias");

static ModelSpec biogpt(const Meta& meta) {
  ModelSpec spec = fairseq_like(meta.with_defaults({{"scale_embedding", true}}), "gelu");
  for_each_norm(spec, [](NormSpec& norm) { norm.eps = 1e-5f; });  // not the configuration's, which is another model's
  return spec;
}
FAMILY(biogpt, ("BioGptForCausalLM"), ());
STORES(biogpt, "*.bias");

static ModelSpec xglm(const Meta& meta) {
  ModelSpec spec = fairseq_like(meta.with_defaults({{"scale_embedding", true}}), "gelu");
  spec.embed.positions = EmbedSpec::Positions::kSinusoidal;
  return spec;
}
FAMILY(xglm, ("XGLMForCausalLM"), ());
STORES(xglm, "*.bias");

}  // namespace baize
