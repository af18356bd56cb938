// MiniMax-01 (2025): attention in some layers and lightning attention in the others; residuals of the normed input.
#include "model/family.h"

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

}  // namespace baize
