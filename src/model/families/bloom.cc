// BLOOM (Scao et al. 2022), MPT (MosaicML 2023) and Falcon (Almazrouei et al. 2023): ALiBi instead of positions; Falcon
// mostly rotates, has parallel branches, and one key head or some.
#include <cmath>

#include "model/family.h"

namespace baize {

static ModelSpec bloom(const Meta& file) {
  const Meta meta = file.with_defaults({{"intermediate_size", 4 * file.integer("hidden_size")},
                                        {"max_position_embeddings", file.integer("seq_length", 2048)}});
  ModelSpec spec = layer_norm_like(meta, "gelu_pytorch_tanh");
  spec.embed.norm = spec.final_norm;
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  for (LayerSpec& layer : spec.layers) {
    AttnSpec& a = attn(layer);
    a.rope = {};
    a.alibi = 8;
    if (!file.gguf()) a.layout.groups = a.heads;
    for (Sublayer& sub : layer.sub) sub.from_normed = meta.flag("apply_residual_connection_post_layernorm", false);
  }
  return spec;
}
FAMILY(bloom, ("BloomForCausalLM"), ("bloom"));
STORES(bloom, "*.bias");

static ModelSpec mpt(const Meta& file) {
  const int64_t wide = file.integer("hidden_size") * file.integer("expansion_ratio", 4);
  const Meta meta = file.with_defaults({{"intermediate_size", wide}}).inner("attn_config");
  ModelSpec spec = layer_norm_like(meta, "gelu");
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  for (LayerSpec& layer : spec.layers) {
    AttnSpec& a = attn(layer);
    a.rope = {};
    if (meta.flag("alibi", true)) a.alibi = meta.number("alibi_bias_max", 8);
    a.clip = meta.number("clip_qkv", 0);
    a.scale = meta.number("softmax_scale", a.scale);
  }
  return spec;
}
FAMILY(mpt, ("MptForCausalLM", "MPTForCausalLM"), ("mpt"));

static ModelSpec falcon(const Meta& file) {
  const Meta meta =
      file.with_defaults({{"intermediate_size", 4 * file.integer("hidden_size")}, {"max_position_embeddings", 2048}});
  ModelSpec spec = layer_norm_like(meta, "gelu");
  spec.head.tied = !meta.gguf() && meta.flag("tie_word_embeddings", true);
  const bool grouped = meta.flag("new_decoder_architecture", false), alibi = meta.flag("alibi", false);
  const bool parallel = grouped || meta.flag("parallel_attn", true);
  const bool second = meta.checkpoint().find("blk.0.attn_norm_2.weight") != nullptr;
  const bool one_norm = meta.gguf() ? !second : grouped ? meta.integer("num_ln_in_parallel_attn", 2) == 1 : parallel;
  for (LayerSpec& layer : spec.layers) {
    AttnSpec& a = attn(layer);
    const bool single = meta.flag("multi_query", true) && !grouped;
    if (!meta.gguf()) a.kv_heads = grouped ? meta.integer("num_kv_heads", a.heads) : single ? 1 : a.heads;
    a.layout.groups = single || meta.gguf() ? 1 : a.kv_heads;
    if (alibi) {  // scaled like the scores; the reference (transformers 5.17, eager) adds it in the mask and again here
      a.rope = {};
      a.alibi = 8;
      a.alibi_scale = 2 * a.scale;
    }
    layer.sub[1].parallel = parallel;
    if (one_norm) layer.sub[1].pre = {};
  }
  return spec;
}
FAMILY(falcon, ("FalconForCausalLM", "RWForCausalLM"), ("falcon"));
STORES(falcon, "attn.norm.bias", "ffn.norm.bias", "final_norm.bias");

}  // namespace baize
