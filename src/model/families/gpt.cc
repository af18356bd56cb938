// GPT-2 and its kin: layer norms with biases, learned positions, feed-forwards without a gate. GPT (Radford et al.
// 2018) norms after the sum; GPT-2 (2019), GPTBigCode (2023: one key head), GPT-Neo (Black et al. 2021: local attention
// in every other layer, scores not scaled).
#include <cmath>

#include "model/family.h"

namespace baize {

static ModelSpec gpt2(const Meta& file) {
  const Meta meta = file.with_defaults({{"intermediate_size", 4 * file.integer("hidden_size")}});
  ModelSpec spec = layer_norm_like(meta, "gelu_new");
  spec.transposed = !meta.gguf();
  spec.embed.positions = EmbedSpec::Positions::kLearned;
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    AttnSpec& a = attn(spec.layers[i]);
    a.rope = {};
    if (!meta.flag("scale_attn_weights", true)) a.scale = 1;
    if (meta.flag("scale_attn_by_inverse_layer_idx", false)) a.scale /= static_cast<float>(i + 1);
  }
  return spec;
}
FAMILY(gpt2, ("GPT2LMHeadModel"), ("gpt2"));
STORES(gpt2, "*.bias");

static ModelSpec gpt(const Meta& meta) {
  ModelSpec spec = gpt2(meta);
  spec.final_norm = {};
  for (LayerSpec& layer : spec.layers) norm_after(layer);
  for (LayerSpec& layer : spec.layers) {  // its "gelu" is the approximation
    if (ffn(layer).activation == Activation::kGelu) ffn(layer).activation = Activation::kGeluTanh;
  }
  return spec;
}
FAMILY(gpt, ("OpenAIGPTLMHeadModel"), ());
STORES(gpt, "*.bias");

static ModelSpec gpt_bigcode(const Meta& meta) {
  ModelSpec spec = gpt2(meta);
  spec.transposed = false;
  for (LayerSpec& layer : spec.layers) {
    AttnSpec& a = attn(layer);
    if (meta.gguf()) continue;  // the key says it, and parts of the matrix follow each other
    a.kv_heads = meta.flag("multi_query", true) ? 1 : a.heads;
    if (a.kv_heads == a.heads) a.layout.groups = a.heads;
  }
  return spec;
}
FAMILY(gpt_bigcode, ("GPTBigCodeForCausalLM"), ("starcoder"));
STORES(gpt_bigcode, "*.bias");

static ModelSpec gpt_neo(const Meta& meta) {
  ModelSpec spec = gpt2(meta);
  spec.transposed = false;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    AttnSpec& a = attn(spec.layers[i]);
    a.scale = 1;
    const bool local = meta.text_at("attention_layers", static_cast<int64_t>(i), "global") == "local";
    if (local) a.window = meta.integer("window_size", 256);
  }
  return spec;
}
FAMILY(gpt_neo, ("GPTNeoForCausalLM"), ());
STORES(gpt_neo, "attn.norm.bias", "ffn.norm.bias", "final_norm.bias", "attn.o.bias", "ffn.up.bias", "ffn.down.bias");

}  // namespace baize
