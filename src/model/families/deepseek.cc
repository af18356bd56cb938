// Latent attention: DeepSeek-V2 (2024) with softmax experts in groups, DeepSeek-V3 with sigmoid ones; GLM-4.7-Flash,
// Youtu-LLM (Tencent 2025: dense) and MiniCPM3 (2024: multipliers) have the same attention.
#include <cmath>

#include "base/error.h"
#include "model/family.h"

namespace baize {

// `mscale` of YaRN, squared, multiplies the scores.
static float score_factor(const Meta& meta) {
  const Meta rope = meta.has("rope_parameters") ? meta.inner("rope_parameters") : meta.inner("rope_scaling");
  const float all = rope.number("mscale_all_dim", 0), factor = rope.number("factor", 1);
  if (all == 0 || factor <= 1) return 1;
  const float mscale = 0.1f * all * std::log(factor) + 1;
  return mscale * mscale;
}

ModelSpec latent_like(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  MlaSpec a;
  a.heads = meta.integer("num_attention_heads");
  a.rope_dim = meta.integer("qk_rope_head_dim");
  a.nope_dim = meta.gguf() ? meta.integer("qk_head_dim") - a.rope_dim : meta.integer("qk_nope_head_dim");
  a.v_dim = meta.integer("v_head_dim");
  a.q_rank = meta.integer("q_lora_rank", 0);
  a.kv_rank = meta.integer("kv_lora_rank");
  a.rope = meta.rope(a.rope_dim);
  a.rope.interleaved = meta.flag("rope_interleave", true);
  a.scale = score_factor(meta) / std::sqrt(static_cast<float>(a.nope_dim + a.rope_dim));
  a.q_norm = a.kv_norm = {.present = true, .eps = 1e-6f};
  for (LayerSpec& layer : spec.layers) layer.sub[0].block = a;
  return spec;
}

// GGUF has one name for all of DeepSeek's kin. `mscale` of the rotation is the scores', so that the rotation itself has
// none, and the keys say how experts are chosen; files older than that key have a bias of the choice where it is V3's.
static ModelSpec deepseek_gguf(const Meta& meta) {
  ModelSpec spec = latent_like(meta);
  for (LayerSpec& layer : spec.layers) {
    MlaSpec& a = mla(layer);
    if (a.rope.kind != RopeSpec::Kind::kYarn || !meta.has("rope_yarn_log_multiplier")) continue;
    const float mscale = 1 + meta.number("rope_yarn_log_multiplier") * std::log(a.rope.factor);
    a.scale *= mscale * mscale;
    a.rope.attention_factor = meta.number("rope_attention_factor", 1);
  }
  if (meta.integer("num_experts", 0) == 0) return spec;
  const bool bias = meta.checkpoint().find(fmt::format("blk.{}.exp_probs_b.bias", meta.layers() - 1)) != nullptr;
  const bool sigmoid = meta.integer("expert_gating_func", bias ? 2 : 1) == 2;
  MoeFfn experts = sigmoid_moe(meta);
  experts.renormalise = meta.flag("norm_topk_prob", false);
  experts.score = sigmoid ? RouteArgs::Score::kSigmoid : RouteArgs::Score::kSoftmax;
  experts.group_by_two = sigmoid;
  if (!sigmoid) experts.norm_min = 0;
  use_experts(meta, spec, experts);
  return spec;
}

static ModelSpec deepseek_v2(const Meta& meta) {
  if (meta.gguf()) return deepseek_gguf(meta);
  ModelSpec spec = latent_like(meta);
  MoeFfn moe = moe_like(meta);
  moe.renormalise = false;
  moe.group_by_two = false;
  if (meta.text("topk_method", "greedy") != "greedy") {
    moe.groups = meta.integer("n_group", 1);
    moe.top_groups = meta.integer("topk_group", 1);
  }
  use_experts(meta, spec, moe);
  return spec;
}
FAMILY(deepseek_v2, ("DeepseekV2ForCausalLM"), ("deepseek2"));

static ModelSpec deepseek_v3(const Meta& meta) {
  ModelSpec spec = latent_like(meta);
  use_experts(meta, spec, sigmoid_moe(meta));
  return spec;
}
FAMILY(deepseek_v3, ("DeepseekV3ForCausalLM", "Glm4MoeLiteForCausalLM"), ());
STORES(deepseek_v3, "moe.choice.bias");
WRITTEN_AS(deepseek_v3, "deepseek2");

static ModelSpec youtu(const Meta& meta) { return latent_like(meta); }
FAMILY(youtu, ("YoutuForCausalLM"), ());
WRITTEN_AS(youtu, "deepseek2");

static ModelSpec minicpm3(const Meta& file) {
  ModelSpec spec = latent_like(file.with_defaults({{"rope_interleave", false}}));
  spec.embed.alpha = file.number("scale_emb", 1);
  spec.head.alpha =
      file.number("dim_model_base", static_cast<float>(spec.dims.hidden)) / static_cast<float>(spec.dims.hidden);
  const float depth = file.number("scale_depth", 1) / std::sqrt(static_cast<float>(spec.layers.size()));
  for (LayerSpec& layer : spec.layers) {
    for (Sublayer& sub : layer.sub) sub.scale = depth;
  }
  return spec;
}
FAMILY(minicpm3, ("MiniCPM3ForCausalLM"), ());

}  // namespace baize
