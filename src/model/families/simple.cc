// Llama's shape with one change. CWM (Meta 2025): windows. SmolLM3 (2025): some layers without positions. Seed-OSS
// (2025): no bias behind the attention.
#include "model/family.h"

namespace baize {

static ModelSpec cwm(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  windows_by_type(meta, spec);
  return spec;
}
FAMILY(cwm, ("CwmForCausalLM"), ());

static ModelSpec smollm3(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  if (meta.flag("use_sliding_window", false)) windows_by_type(meta, spec);
  const int64_t interval = meta.positive("no_rope_layer_interval", 4);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    attn(spec.layers[i]).rope.interleaved = meta.gguf();  // converters reorder the rows, as for Llama
    if (meta.entry("no_rope_layers", index, (index + 1) % interval) == 0) attn(spec.layers[i]).rope = {};
  }
  return spec;
}
FAMILY(smollm3, ("SmolLM3ForCausalLM"), ("smollm3"));

static ModelSpec seed_oss(const Meta& meta) { return llama_like(meta); }
FAMILY(seed_oss, ("SeedOssForCausalLM"), ("seed_oss"));
STORES(seed_oss, "-attn.o.bias");

}  // namespace baize
