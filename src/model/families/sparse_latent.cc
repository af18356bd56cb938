// Latent attention over the positions that a sparse indexer chooses: DeepSeek-V3.2 (2025), and GLM-5 (2026), whose
// layers may share a choice.
#include "model/family.h"

namespace baize {

// "full" layers choose, "shared" ones take the choice of the layer before.
static bool shares_choice(const Meta& meta, int64_t layer) {
  if (meta.has("indexer_types")) return meta.text_at("indexer_types", layer, "full") == "shared";
  const std::string pattern = meta.text("index_topk_pattern", "");
  if (layer < std::ssize(pattern)) return pattern[static_cast<size_t>(layer)] == 'S';
  const int64_t period = std::max<int64_t>(1, meta.integer("index_topk_freq", 1));
  return std::max<int64_t>(0, layer - meta.integer("index_skip_topk_offset", 2) + 1) % period != 0;
}

ModelSpec sparse_latent_like(const Meta& meta, bool interleaved) {
  ModelSpec spec = latent_like(meta);
  IndexerSpec indexer;
  indexer.top_k = meta.integer("index_topk");
  indexer.heads = meta.integer("index_n_heads");
  indexer.head_dim = meta.integer("index_head_dim");
  indexer.rope = mla(spec.layers[0]).rope;
  indexer.rope.interleaved = interleaved;
  indexer.k_norm = {.present = true, .eps = 1e-6f, .center = true};
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    mla(spec.layers[i]).indexer = indexer;
    mla(spec.layers[i]).indexer.shared = shares_choice(meta, static_cast<int64_t>(i));
  }
  use_experts(meta, spec, sigmoid_moe(meta), 3);
  return spec;
}

static ModelSpec deepseek_v32(const Meta& meta) { return sparse_latent_like(meta, false); }
FAMILY(deepseek_v32, ("DeepseekV32ForCausalLM"), ());
STORES(deepseek_v32, "moe.choice.bias", "index.k_norm.bias");

static ModelSpec glm_moe_dsa(const Meta& meta) { return sparse_latent_like(meta, true); }
FAMILY(glm_moe_dsa, ("GlmMoeDsaForCausalLM"), ());
STORES(glm_moe_dsa, "moe.choice.bias", "index.k_norm.bias");

// Hy4: several residual streams, sinks, an output gate; its experts' activations are limited.
static ModelSpec hy_v4(const Meta& meta) {
  ModelSpec spec = sparse_latent_like(
      meta.with_defaults({{"rope_interleave", false}, {"first_k_dense_replace", 1}, {"index_topk_freq", 4}}), false);
  const float eps = meta.number("rms_norm_eps", 1e-5f);
  spec.hyper = {.streams = meta.integer("hc_mult", 4),
                .magnitude = meta.number("hc_magnitude", 2),
                .eps = meta.number("hc_eps", 1e-6f),
                .norm_eps = eps};
  spec.hyper.post_eps = spec.hyper.eps;
  for (LayerSpec& layer : spec.layers) {
    MlaSpec& a = mla(layer);
    a.gated = true;
    a.indexer.rope.offset = a.indexer.head_dim - a.indexer.rope.rot_dim;
    a.indexer.k_norm.eps = eps;
    if (auto* moe = std::get_if<MoeFfn>(&layer.sub[1].block)) {
      moe->expert.limit = meta.number("swiglu_limit", 10);
      moe->expert.activation = Activation::kSilu;  // "hidden_act" is the others'
    }
  }
  return spec;
}
FAMILY(hy_v4, ("HYV4ForCausalLM"), ());
STORES(hy_v4, "moe.choice.bias", "index.k_norm.bias", "attn.sinks.weight");

}  // namespace baize
