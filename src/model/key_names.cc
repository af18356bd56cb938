// The spellings of configuration keys; see names.h.
#include <array>

#include "model/names.h"

namespace baize {

namespace {

struct KeyRow {
  std::string_view hf;
  std::string_view gguf;
  std::string_view other{};  // of architectures that spell it in another way
};

constexpr KeyRow kKeys[] = {
    {"hidden_size", "embedding_length"},
    {"num_hidden_layers", "block_count"},
    {"num_attention_heads", "attention.head_count"},
    {"num_key_value_heads", "attention.head_count_kv"},
    {"head_dim", "attention.key_length"},
    {"intermediate_size", "feed_forward_length"},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"},
    {"layer_norm_eps", "attention.layer_norm_epsilon"},
    {"max_position_embeddings", "context_length"},
    {"sliding_window", "attention.sliding_window"},
    {"sliding_window_pattern", "attention.sliding_window_pattern"},
    {"attn_logit_softcapping", "attn_logit_softcapping"},
    {"final_logit_softcapping", "final_logit_softcapping"},
    {"attention_scale", "attention.scale"},
    {"num_experts", "expert_count"},
    {"num_experts_per_tok", "expert_used_count"},
    {"moe_intermediate_size", "expert_feed_forward_length"},
    {"shared_expert_intermediate_size", "expert_shared_feed_forward_length"},
    {"num_shared_experts", "expert_shared_count"},
    {"norm_topk_prob", "expert_weights_norm"},
    {"routed_scaling_factor", "expert_weights_scale"},
    {"first_k_dense_replace", "leading_dense_block_count"},
    {"n_group", "expert_group_count"},
    {"topk_group", "expert_group_used_count"},
    {"embedding_multiplier", "embedding_scale"},
    {"residual_multiplier", "residual_scale"},
    {"attention_multiplier", "attention.scale"},
    {"logits_scaling", "logit_scale"},
    {"logit_scale", "logit_scale"},
    {"clip_qkv", "attention.clamp_kqv"},
    {"alibi_bias_max", "attention.max_alibi_bias"},
    {"use_parallel_residual", "use_parallel_residual"},
    {"shared_intermediate_size", "expert_shared_feed_forward_length"},
    {"moe_layer_start_index", "leading_dense_block_count"},
    {"moe_layer_interval", "interleave_moe_layer_step"},
    {"rope_theta", "rope.freq_base"},
    {"rope_local_base_freq", "rope.freq_base_swa"},
    {"rope_dim", "rope.dimension_count"},
    {"rope_scaling_type", "rope.scaling.type"},
    {"rope_scaling_factor", "rope.scaling.factor"},
    {"rope_scale_linear", "rope.scale_linear"},
    {"rope_attention_factor", "rope.scaling.attn_factor"},
    {"rope_beta_fast", "rope.scaling.yarn_beta_fast"},
    {"rope_beta_slow", "rope.scaling.yarn_beta_slow"},
    {"original_max_position_embeddings", "rope.scaling.original_context_length"},
    {"rope_yarn_log_multiplier", "rope.scaling.yarn_log_multiplier"},
    {"expert_gating_func", "expert_gating_func"},
    {"interleave_moe_layer_step", "interleave_moe_layer_step"},
    {"intermediate_size_mlp", "feed_forward_length"},
    {"attention_chunk_size", "attention.sliding_window"},
    {"conv_L_cache", "shortconv.l_cache"},
    {"q_lora_rank", "attention.q_lora_rank"},
    {"kv_lora_rank", "attention.kv_lora_rank"},
    {"qk_rope_head_dim", "rope.dimension_count"},
    {"qk_head_dim", "attention.key_length_mla", "attention.key_length"},
    {"v_head_dim", "attention.value_length_mla", "attention.value_length"},
};

// Other spellings of keys in config.json, tried in order when the key itself is missing.
struct AliasRow {
  std::string_view key;
  std::array<std::string_view, 6> others;
};

constexpr AliasRow kAliases[] = {
    {"hidden_size", {"n_embd", "d_model"}},
    {"num_hidden_layers", {"n_layer", "n_layers", "num_layers"}},
    {"num_attention_heads", {"n_head", "n_heads", "num_heads", "attention_heads"}},
    {"intermediate_size", {"n_inner", "ffn_dim", "ffn_hidden_size"}},
    {"max_position_embeddings", {"n_positions", "max_seq_len", "model_max_length", "context_length", "n_ctx"}},
    {"rms_norm_eps", {"layer_norm_epsilon", "layer_norm_eps", "norm_eps", "norm_epsilon", "layernorm_epsilon"}},
    {"hidden_act", {"activation_function", "activation", "afn", "mlp_hidden_act"}},
    {"num_experts", {"num_local_experts", "n_routed_experts", "moe_num_experts"}},
    {"num_experts_per_tok", {"moe_topk", "moe_k", "num_experts_per_token", "top_k_experts"}},
    {"num_shared_experts", {"n_shared_experts", "moe_num_shared_experts"}},
    {"n_group", {"num_expert_group"}},
    {"routed_scaling_factor", {"route_scale", "router_scaling_factor", "moe_routed_scaling_factor"}},
};

}  // namespace

std::string_view gguf_key(std::string_view hf_key) {
  for (const KeyRow& row : kKeys) {
    if (row.hf == hf_key) return row.gguf;
  }
  return {};
}

std::string_view gguf_other_key(std::string_view hf_key) {
  for (const KeyRow& row : kKeys) {
    if (row.hf == hf_key) return row.other;
  }
  return {};
}

std::span<const std::string_view> key_aliases(std::string_view key) {
  for (const AliasRow& row : kAliases) {
    if (row.key == key) return row.others;
  }
  return {};
}

}  // namespace baize
