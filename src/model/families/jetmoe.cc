// JetMoE (Shen et al. 2024): mixtures of attention heads and of feed-forwards, each with a bias behind it.
#include "model/family.h"

namespace baize {

static ModelSpec jetmoe(const Meta& file) {
  const int64_t top_k = file.integer("num_experts_per_tok", 2), kv_heads = file.integer("num_key_value_heads", 16);
  const Meta meta = file.with_defaults({{"num_attention_heads", top_k * kv_heads},
                                        {"num_experts_per_tok", top_k},
                                        {"num_key_value_heads", kv_heads},
                                        {"head_dim", file.integer("kv_channels", 128)},
                                        {"tie_word_embeddings", true}});
  ModelSpec spec = llama_like(meta);
  MoeFfn moe = moe_like(meta);
  moe.score = RouteArgs::Score::kLogit;
  moe.softmax_last = true;
  for (LayerSpec& layer : spec.layers) {
    for (Sublayer& sub : layer.sub) sub.pre.eps = 1e-6f;  // whatever the configuration says of the last norm's
    const AttnSpec attention = attn(layer);
    layer.sub[0].block = AttnExpertsSpec{attention, moe.experts, top_k};
    layer.sub[1].block = moe;
  }
  return spec;
}
FAMILY(jetmoe, ("JetMoeForCausalLM"), ());
STORES(jetmoe, "moe.out.bias", "attn.out.bias");

}  // namespace baize
