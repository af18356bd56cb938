// Qwen2 and Qwen2.5: Yang et al. 2024. Llama with biases on q, k and v, and optional windows in the upper layers.
// Qwen3 (2025): q/k norms over each head instead of biases.
#include "model/family.h"

namespace baize {

static ModelSpec qwen2(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  const bool windows = meta.flag("use_sliding_window", meta.gguf());  // in GGUF the window's presence says it
  const int64_t first = meta.integer("max_window_layers", meta.gguf() ? 0 : 28);
  for (int64_t i = 0; i < meta.layers(); ++i) {
    const std::string type = meta.layer_type(i, windows && i >= first ? "sliding_attention" : "full_attention");
    if (windows && type == "sliding_attention") {
      attn(spec.layers[static_cast<size_t>(i)]).window = meta.integer("sliding_window", 0);
    }
  }
  return spec;
}
FAMILY(qwen2, ("Qwen2ForCausalLM"), ("qwen2"));
STORES(qwen2, "attn.q.bias", "attn.k.bias", "attn.v.bias");

static ModelSpec qwen3(const Meta& meta) {
  ModelSpec spec = qwen2(meta);
  for (LayerSpec& layer : spec.layers) attn(layer).q_norm = attn(layer).k_norm = layer.sub.front().pre;
  return spec;
}
FAMILY(qwen3, ("Qwen3ForCausalLM"), ("qwen3"));

}  // namespace baize
