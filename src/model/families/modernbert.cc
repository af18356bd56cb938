// ModernBERT's decoder (Weller et al. 2025): layer norms, one of the embedding instead of the first layer's, windows,
// gated GELU, and a dense layer before the tied head.
#include "model/family.h"

namespace baize {

static ModelSpec modernbert_decoder(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  for_each_norm(spec, [](NormSpec& norm) { norm.center = true; });
  windows_by_type(meta, spec, [](int64_t i) { return i % 3 != 0; });
  for (LayerSpec& layer : spec.layers) ffn(layer).activation = meta.activation("gelu");
  spec.layers[0].sub[0].pre = {};
  spec.embed.norm = spec.head.norm = spec.final_norm;
  spec.head.activation = Activation::kGelu;
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  return spec;
}
FAMILY(modernbert_decoder, ("ModernBertDecoderForCausalLM"), ());
STORES(modernbert_decoder, "head.bias");

}  // namespace baize
