// Attention in some layers and in the others: lightning attention (MiniMax-01 2025: residuals of the normed input),
// RG-LRU (RecurrentGemma, Botev et al. 2024). And RWKV-4 (Peng et al. 2023), which has no attention.
#include <cmath>

#include "model/family.h"
#include "tensor/dtype.h"

namespace baize {

static ModelSpec minimax(const Meta& meta) {
  ModelSpec spec = llama_like(meta);
  MoeFfn moe = moe_like(meta);
  moe.renormalise = true;
  RecurrenceSpec recurrence;
  recurrence.kind = RecurrenceSpec::Kind::kLightning;
  recurrence.heads = recurrence.key_heads = meta.integer("num_attention_heads");
  recurrence.key_dim = recurrence.value_dim = attn(spec.layers[0]).head_dim;
  recurrence.activation = meta.activation("silu");
  recurrence.norm = {.present = true, .eps = 1e-6f};
  recurrence.norm_first = true;
  // Checkpoints hold tables of the decays within a block, rounded to bf16. Using them needs the block's keys and values
  // in the state: only where these are not more than the state itself. With the usual blocks of 256 they would be four
  // times more, and the decays themselves, which the tables approximate, serve every token.
  const int64_t block = meta.integer("block_size", 256);
  if (block * 2 <= recurrence.key_dim) recurrence.block = block;
  recurrence.gate = Activation::kSigmoid;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    std::vector<Sublayer>& sub = spec.layers[i].sub;
    const bool linear = meta.text_at("layer_types", static_cast<int64_t>(i), "") == "linear_attention";
    attn(spec.layers[i]).window = meta.integer("sliding_window", 0);
    if (linear) sub[0].block = recurrence;
    sub[0].alpha = meta.number(linear ? "linear_attn_alpha_factor" : "full_attn_alpha_factor", 1);
    sub[0].scale = meta.number(linear ? "linear_attn_beta_factor" : "full_attn_beta_factor", 1);
    sub[1].block = moe;
    sub[1].alpha = meta.number("mlp_alpha_factor", 1);
    sub[1].scale = meta.number("mlp_beta_factor", 1);
    sub[0].from_normed = sub[1].from_normed = true;
  }
  return spec;
}
FAMILY(minimax, ("MiniMaxForCausalLM"), ());

static ModelSpec recurrent_gemma(const Meta& file) {
  const Meta meta = file.with_defaults({{"max_position_embeddings", 8192}, {"partial_rotary_factor", 0.5}});
  ModelSpec spec = llama_like(meta);
  for_each_norm(spec, [](NormSpec& norm) { norm.plus_one = true; });
  spec.embed.alpha = bf16_to_f32(f32_to_bf16(std::sqrt(static_cast<float>(spec.dims.hidden))));  // kept as bf16
  spec.head.tied = meta.flag("tie_word_embeddings", true);
  spec.head.softcap = meta.number("logits_soft_cap", 30);
  const LruSpec lru{.width = meta.integer("lru_width", spec.dims.hidden),
                    .blocks = meta.integer("num_attention_heads"),
                    .conv = meta.integer("conv1d_width", 4),
                    .activation = meta.activation("gelu_pytorch_tanh")};
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    ffn(spec.layers[i]).ff /= 2;
    ffn(spec.layers[i]).activation = lru.activation;
    attn(spec.layers[i]).window = meta.integer("attention_window_size", 2048);
    const std::string usual = i % 3 == 2 ? "attention" : "recurrent";
    if (meta.text_at("block_types", static_cast<int64_t>(i), usual) == "recurrent") spec.layers[i].sub[0].block = lru;
  }
  return spec;
}
FAMILY(recurrent_gemma, ("RecurrentGemmaForCausalLM"), ());
STORES(recurrent_gemma, "*.bias", "-attn.q.bias", "-attn.k.bias", "-attn.v.bias");

static ModelSpec rwkv4(const Meta& file) {
  ModelSpec spec = layers_like(file.with_defaults({{"max_position_embeddings", 131072}, {"rms_norm_eps", 1e-5}}));
  spec.final_norm.center = true;
  spec.embed.norm = spec.final_norm;
  spec.final_norm.eps = 1e-5f;
  RwkvSpec time{.hidden = spec.dims.hidden, .width = file.integer("attention_hidden_size", spec.dims.hidden)};
  time.time = true;
  const NormSpec before = spec.embed.norm;
  const RwkvSpec channel{.hidden = spec.dims.hidden, .width = file.integer("intermediate_size", 4 * spec.dims.hidden)};
  for (LayerSpec& layer : spec.layers) {
    layer.sub = {{.pre = before, .block = time}, {.pre = before, .block = channel}};
  }
  return spec;
}
FAMILY(rwkv4, ("RwkvForCausalLM"), ());
STORES(rwkv4, "attn.norm.bias", "ffn.norm.bias", "final_norm.bias", "embed.norm.bias");

}  // namespace baize
