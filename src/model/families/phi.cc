// Phi-1 to 2 (Gunasekar et al. 2023): GPT-J's shape with partial rotation by halves. StableLM (Stability AI 2023):
// Llama with layer norms, optionally parallel and with a norm a head. Starcoder2 (2024), Jais 2 (2025), Nemotron
// (2024): no gates, layer norms.
#include "model/family.h"

namespace baize {

static ModelSpec phi(const Meta& file) {
  const Meta meta = file.with_defaults({{"partial_rotary_factor", 0.5}});
  ModelSpec spec = layer_norm_like(meta, "gelu_new");
  for (LayerSpec& layer : spec.layers) {
    if (meta.norms_queries("qk_layernorm")) attn(layer).q_norm = attn(layer).k_norm = layer.sub[0].pre;
    layer.sub[1].parallel = true;
    layer.sub[1].pre = {};
  }
  return spec;
}
FAMILY(phi, ("PhiForCausalLM"), ("phi2"));
STORES(phi, "*.bias", "head.bias");

static ModelSpec stablelm(const Meta& file) {
  const Meta meta = file.with_defaults({{"partial_rotary_factor", 0.25}});
  ModelSpec spec = layer_norm_like(meta, "silu");
  for (LayerSpec& layer : spec.layers) {
    ffn(layer).gated = true;
    AttnSpec& a = attn(layer);
    if (meta.norms_queries("qk_layernorm")) a.q_norm = a.k_norm = layer.sub[0].pre;
    a.norm_axis = Axis::kEachHead;
    layer.sub[1].parallel = meta.flag("use_parallel_residual", false);
    if (layer.sub[1].parallel) layer.sub[1].pre = {};
  }
  return spec;
}
FAMILY(stablelm, ("StableLmForCausalLM"), ("stablelm"));
STORES(stablelm, "attn.norm.bias", "ffn.norm.bias", "final_norm.bias");

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
