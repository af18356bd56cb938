// Llama's shape with one or two changes. Arcee (2025): squared ReLU without a gate. Apertus (Swiss AI 2025): xIELU, q/k
// norms. BitNet (Ma et al. 2024): norms before the last matrices. CWM (Meta 2025), Ministral (2024-2025): windows.
// SmolLM3 (2025): some layers without positions. Seed-OSS (2025), Ernie 4.5 (2025): neighbours turn together. NanoChat
// (2025): norms without weights, rotation the other way round.
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
  const int64_t interval = meta.integer("no_rope_layer_interval", 4);
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

static ModelSpec nanochat(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  spec.head.softcap = meta.number("final_logit_softcapping", 0);
  for_each_norm(spec, [](NormSpec& norm) { norm.weightless = true; });
  spec.embed.norm = spec.final_norm;
  norm_qk(spec);
  for (LayerSpec& layer : spec.layers) {
    attn(layer).norm_last = true;
    attn(layer).rope.backwards = true;
    ffn(layer).gated = false;
    ffn(layer).activation = meta.activation("relu2");
  }
  return spec;
}
FAMILY(nanochat, ("NanoChatForCausalLM"), ());

}  // namespace baize
