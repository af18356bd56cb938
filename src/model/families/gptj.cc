// GPT-J (Wang & Komatsuzaki 2021) and CodeGen (Nijkamp et al. 2022): attention and feed-forward read the same norm, and
// part of a head is rotated in pairs of neighbours. CodeGen stores q|v|k in four stretches.
#include "model/family.h"

namespace baize {

static ModelSpec gptj(const Meta& file) {
  const Meta meta = file.with_defaults({{"intermediate_size", 4 * file.integer("hidden_size")}});
  ModelSpec spec = layer_norm_like(meta, "gelu_new");
  for (LayerSpec& layer : spec.layers) {
    AttnSpec& a = attn(layer);
    a.rope.interleaved = true;
    a.rope.rot_dim = meta.integer("rotary_dim", 64);
    layer.sub[1].parallel = true;
    layer.sub[1].pre = {};
  }
  return spec;
}
FAMILY(gptj, ("GPTJForCausalLM"), ());
STORES(gptj, "attn.norm.bias", "ffn.norm.bias", "final_norm.bias", "ffn.up.bias", "ffn.down.bias", "head.bias");

static ModelSpec codegen(const Meta& meta) {
  ModelSpec spec = gptj(meta);
  for (LayerSpec& layer : spec.layers) attn(layer).layout = {4, QkvLayout::Order::kQvk};
  return spec;
}
FAMILY(codegen, ("CodeGenForCausalLM"), ());
STORES(codegen, "attn.norm.bias", "ffn.norm.bias", "final_norm.bias", "ffn.up.bias", "ffn.down.bias", "head.bias");

}  // namespace baize
