// Llama's shape with a squared ReLU. Arcee (2025): without a gate. Apertus (Swiss AI 2025): xIELU, q/k norms. BitNet
// (Ma et al. 2024): norms before the last matrices.
#include "model/family.h"

namespace baize {

static ModelSpec arcee(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  for (LayerSpec& layer : spec.layers) {
    ffn(layer).gated = false;
    ffn(layer).activation = meta.activation("relu2");
    attn(layer).rope.interleaved = meta.gguf();  // converters reorder the rows, as for Llama
  }
  return spec;
}
FAMILY(arcee, ("ArceeForCausalLM"), ("arcee"));

static ModelSpec apertus(const Meta& meta) {
  ModelSpec spec = arcee(meta.with_defaults({{"hidden_act", "xielu"}}));
  norm_qk(spec);
  return spec;
}
FAMILY(apertus, ("ApertusForCausalLM"), ());

static ModelSpec bitnet(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  for (LayerSpec& layer : spec.layers) {
    ffn(layer).activation = meta.activation("relu2");
    ffn(layer).inner_norm = attn(layer).out_norm = spec.final_norm;
  }
  return spec;
}
FAMILY(bitnet, ("BitNetForCausalLM"), ());

}  // namespace baize
