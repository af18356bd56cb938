// Llama's shape with layer norms and without gates: Starcoder2 (2024), Jais 2 (2025), Nemotron (NVIDIA 2024).
#include "model/family.h"

namespace baize {

static ModelSpec starcoder2(const Meta& meta) {
  ModelSpec spec = layer_norm_like(meta, "gelu_pytorch_tanh");
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  for (LayerSpec& layer : spec.layers) attn(layer).window = meta.integer("sliding_window", 0);
  return spec;
}
FAMILY(starcoder2, ("Starcoder2ForCausalLM"), ("starcoder2"));
STORES(starcoder2, "*.bias");

static ModelSpec jais2(const Meta& meta) { return layer_norm_like(meta, "relu2"); }
FAMILY(jais2, ("Jais2ForCausalLM"), ("jais2"));
STORES(jais2, "*.bias");

static ModelSpec nemotron(const Meta& file) {
  ModelSpec spec = layer_norm_like(file.with_defaults({{"partial_rotary_factor", 0.5}}), "relu2");
  for_each_norm(spec, [&](NormSpec& norm) { norm.plus_one = !file.gguf(); });
  return spec;
}
FAMILY(nemotron, ("NemotronForCausalLM"), ("nemotron"));
STORES(nemotron, "attn.norm.bias", "ffn.norm.bias", "final_norm.bias");

}  // namespace baize
