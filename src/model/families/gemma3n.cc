// Gemma 3n (Google 2025): AltUp's residual streams, Laurel's low-rank branch beside attention, inputs of the layers'
// own, FFNs of which few gates pass, and last layers that attend to the keys and values of earlier ones.
#include <cmath>
#include <numbers>

#include "model/family.h"

namespace baize {

// The x below which a share `p` of the normal distribution lies, by Newton's method.
static float normal_quantile(double p) {
  double x = 0;
  for (int i = 0; i < 50; ++i) {
    const double below = 0.5 * std::erfc(-x / std::numbers::sqrt2);
    const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
    x -= (below - p) / density;
  }
  return static_cast<float>(x);
}

static ModelSpec gemma3n(const Meta& file) {
  const Meta meta = file.with_defaults(
      {{"head_dim", 256}, {"hidden_act", "gelu_pytorch_tanh"}, {"tie_word_embeddings", true}, {"vocab_size", 262400}});
  ModelSpec spec = llama_like(meta);
  spec.embed.alpha = std::sqrt(static_cast<float>(spec.dims.hidden));
  spec.embed.layer_inputs = meta.integer("hidden_size_per_layer_input", 256);
  spec.head.softcap = meta.number("final_logit_softcapping", 30);
  spec.altup = {.streams = meta.integer("altup_num_inputs", 4),
                .active = meta.integer("altup_active_idx", 0),
                .scaled = meta.flag("altup_correct_scale", true)};
  norm_qk(spec);
  const int64_t layers = meta.layers(), own = layers - meta.integer("num_kv_shared_layers", 15);
  const auto type = [&](int64_t i) { return meta.layer_type(i, i % 5 == 4 ? "full_attention" : "sliding_attention"); };
  for (int64_t i = 0; i < layers; ++i) {
    LayerSpec& layer = spec.layers[static_cast<size_t>(i)];
    AttnSpec& a = attn(layer);
    a.scale = 1;
    a.rope = meta.rope(a.head_dim, type(i));
    if (type(i) == "sliding_attention") a.window = meta.integer("sliding_window", 512);
    a.v_norm = spec.final_norm;
    a.v_norm.weightless = true;
    for (int64_t from = 0; own > 0 && i >= own && from < own; ++from) {
      if (type(from) == type(i)) a.kv_from = from;
    }
    ffn(layer).ff = meta.entry("intermediate_size", i, 16384);
    const float sparse = meta.number_at("activation_sparsity_pattern", i, layers > 10 && i < 10 ? 0.95f : 0);
    if (sparse > 0) ffn(layer).sparsity = normal_quantile(static_cast<double>(sparse));
    sandwich(layer);
    const float half = std::sqrt(0.5f);  // of x, what is attended and Laurel
    layer.sub[0].alpha = layer.sub[0].scale = half;
    const MatrixSpec laurel{spec.dims.hidden, meta.integer("laurel_rank", 64)};
    layer.sub.insert(layer.sub.begin() + 1,
                     {.block = laurel, .post = spec.final_norm, .parallel = true, .with_input = true, .scale = half});
    layer.sub.push_back({.block = LayerInputSpec{spec.embed.layer_inputs, ffn(layer).activation},
                         .post = spec.final_norm,
                         .input = Sublayer::Input::kCorrected});
  }
  return spec;
}
FAMILY(gemma3n, ("Gemma3nForCausalLM", "Gemma3nForConditionalGeneration"), ());
STORES(gemma3n, "altup.scale.weight");

}  // namespace baize
