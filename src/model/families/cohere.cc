// Command R (Cohere 2024), Command A (2025) and its experts: layer norms without biases, parallel branches, neighbours
// turn together, scaled logits; later windows in three of four layers, and no positions in the fourth.
#include "model/family.h"

namespace baize {

static ModelSpec cohere(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  if (!meta.has_own("rms_norm_eps")) {
    for_each_norm(spec, [](NormSpec& norm) { norm.center = true; });
  }
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  spec.head.alpha = meta.number("logit_scale", 0.0625f);
  if (meta.norms_queries("use_qk_norm")) norm_qk(spec, Axis::kEachHead);
  for (LayerSpec& layer : spec.layers) {
    attn(layer).rope.interleaved = true;
    layer.sub[1].parallel = true;
    layer.sub[1].pre = {};
  }
  return spec;
}
FAMILY(cohere, ("CohereForCausalLM"), ("command-r"));

static ModelSpec cohere2(const Meta& meta) {
  ModelSpec spec = cohere(meta);
  const int64_t period = meta.gguf() ? 4 : meta.positive("sliding_window_pattern", 4);
  windows_by_type(meta, spec, [=](int64_t i) { return (i + 1) % period != 0; });
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    AttnSpec& a = attn(spec.layers[i]);
    const bool dense = meta.text_at("mlp_layer_types", static_cast<int64_t>(i), "") == "dense";
    const bool rotates = a.window > 0 || (dense && meta.integer("prefix_dense_sliding_window_pattern", 0) == 1);
    a.rope.interleaved = true;
    if (!rotates) a.rope = {};
  }
  return spec;
}
FAMILY(cohere2, ("Cohere2ForCausalLM"), ("cohere2"));

static ModelSpec cohere2_moe(const Meta& meta) {
  ModelSpec spec = cohere2(meta);
  MoeFfn moe = moe_like(meta);
  moe.softmax_last = meta.text("expert_selection_fn", "softmax") == "softmax";
  moe.score = moe.softmax_last ? RouteArgs::Score::kLogit : RouteArgs::Score::kSigmoid;
  moe.renormalise = moe.renormalise && !moe.softmax_last;
  if (moe.shared.ff > 0 && meta.text("shared_expert_combination_strategy", "average") == "average") {
    moe.shared_scale = moe.routed_scale = 0.5f;
  }
  for (LayerSpec& layer : spec.layers) {
    ffn(layer).ff = meta.integer("prefix_dense_intermediate_size", ffn(layer).ff);
  }
  use_experts(meta, spec, moe);
  return spec;
}
FAMILY(cohere2_moe, ("Cohere2MoeForCausalLM"), ());

}  // namespace baize
