// Gemma: Mesnard et al. 2024; Gemma 2: Riviere et al. 2024; Gemma 3: Kamath et al. 2025. Scaled embeddings, norms
// stored without their 1 (except in GGUF), tanh GELU; then sandwich norms, softcaps and alternating windows; then q/k
// norms.
#include <cmath>

#include "base/error.h"
#include "model/family.h"

namespace baize {

static ModelSpec gemma(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  spec.embed.alpha = std::sqrt(static_cast<float>(spec.dims.hidden));
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  for_each_norm(spec, [&](NormSpec& norm) { norm.plus_one = !meta.gguf(); });
  const Activation named = meta.activation("gelu_pytorch_tanh");
  for (LayerSpec& layer : spec.layers) {  // the first files say "gelu" and mean this one
    ffn(layer).activation = named == Activation::kGelu ? Activation::kGeluTanh : named;
  }
  return spec;
}
FAMILY(gemma, ("GemmaForCausalLM"), ("gemma"));

// GGUF has no key for the query scale; the largest model of each generation divides by hidden / heads instead.
static float query_scale(const Meta& meta, const AttnSpec& a, int64_t largest_layers) {
  if (meta.has("attention_scale")) return meta.number("attention_scale");
  const int64_t of_heads = meta.integer("hidden_size") / a.heads;
  const int64_t scalar = meta.gguf() ? (meta.layers() == largest_layers ? of_heads : a.head_dim)
                                     : meta.integer("query_pre_attn_scalar", 256);
  return 1 / std::sqrt(static_cast<float>(scalar));
}

// Window layers in every period but its last layer.
static void alternate_windows(const Meta& meta, ModelSpec& spec, int64_t period) {
  const int64_t window = meta.integer("sliding_window", 4096);
  for (int64_t i = 0; i < meta.layers(); ++i) {
    AttnSpec& a = attn(spec.layers[static_cast<size_t>(i)]);
    const std::string type = meta.layer_type(i, (i + 1) % period != 0 ? "sliding_attention" : "full_attention");
    if (type == "sliding_attention") a.window = window;
    a.rope = meta.rope(a.head_dim, type);
  }
}

static ModelSpec gemma2(const Meta& meta) {
  ModelSpec spec = gemma(meta);
  alternate_windows(meta, spec, 2);
  for (LayerSpec& layer : spec.layers) {
    AttnSpec& a = attn(layer);
    a.softcap = meta.number("attn_logit_softcapping", 0);
    a.scale = query_scale(meta, a, 46);
    for (Sublayer& sub : layer.sub) sub.post = sub.pre;
  }
  spec.head.softcap = meta.number("final_logit_softcapping", 0);
  return spec;
}
FAMILY(gemma2, ("Gemma2ForCausalLM"), ("gemma2"));

// VaultGemma (2025): Gemma 2 without the norms behind the blocks.
static ModelSpec vaultgemma(const Meta& meta) {
  ModelSpec spec = gemma2(meta);
  for (LayerSpec& layer : spec.layers) {
    for (Sublayer& sub : layer.sub) sub.post = {};
  }
  return spec;
}
FAMILY(vaultgemma, ("VaultGemmaForCausalLM"), ());

static ModelSpec gemma3(const Meta& file) {
  const Meta meta = file.with_defaults({{"vocab_size", 262208},
                                        {"num_attention_heads", 8},
                                        {"num_key_value_heads", 4},
                                        {"head_dim", 256},
                                        {"max_position_embeddings", 131072},
                                        {"rope_theta", 1e6},
                                        {"rope_local_base_freq", 1e4}});
  if (meta.flag("use_bidirectional_attention", false)) {
    fail(ErrorKind::kUnsupported, "{}: use_bidirectional_attention makes an encoder of it, which Baize does not run",
         meta.checkpoint().path());
  }
  ModelSpec spec = gemma2(meta);
  const char* const period = meta.has("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
  alternate_windows(meta, spec, meta.gguf() ? 6 : meta.positive(period, 6));
  for (LayerSpec& layer : spec.layers) {
    AttnSpec& a = attn(layer);
    a.scale = query_scale(meta, a, 62);
    a.softcap = 0;
    a.q_norm = a.k_norm = layer.sub.front().pre;
  }
  return spec;
}
FAMILY(gemma3, ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"), ("gemma3"));

}  // namespace baize
