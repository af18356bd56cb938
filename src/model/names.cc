#include "model/names.h"

#include <array>
#include <utility>
#include <vector>

#include "base/error.h"

namespace baize {

namespace {

// Canonical stem, then its spellings; the first that exists is taken. ".weight" and ".bias" are appended ("_weight",
// "_bias" or, for a weight, nothing where the file has it so). "M." stands for the model prefix, "L." for the layer
// prefix, "E" for the expert.
struct TensorRow {
  std::string_view canonical;
  std::array<std::string_view, 20> hf;
  std::array<std::string_view, 3> gguf;
};

constexpr TensorRow kTensors[] = {
    {"embed",
     {"M.embed_tokens", "M.wte", "M.word_embeddings", "M.tokens_embed", "M.embed_in", "M.embeddings",
      "M.embeddings.tok_embeddings"},
     {"token_embd"}},
    {"embed.norm", {"M.word_embeddings_layernorm", "M.embeddings.norm", "M.blocks.0.pre_ln"}, {"token_embd_norm"}},
    {"embed.positions", {"M.wpe", "M.positions_embed", "M.embed_positions"}, {"position_embd"}},
    {"embed.proj", {"M.project_in"}, {}},
    {"final_norm",
     {"M.norm", "M.ln_f", "M.norm_f", "M.final_layernorm", "M.final_layer_norm", "M.final_norm", "M.layer_norm",
      "M.embedding_norm", "M.ln_out"},
     {"output_norm"}},
    {"head", {"lm_head", "embed_out", "head", "language_model.lm_head", "decoder", "output_projection"}, {"output"}},
    {"head.proj", {"M.project_out"}, {}},
    {"head.dense", {"lm_head.dense"}, {}},
    {"head.norm", {"lm_head.norm"}, {}},
    {"head.hyper_fn", {"M.hc_pre.hc_head.hc_head_fn", "M.hc_head.hc_fn", "M.hc_head_fn"}, {}},
    {"head.hyper_scale", {"M.hc_pre.hc_head.hc_head_scale", "M.hc_head.hc_scale", "M.hc_head_scale"}, {}},
    {"head.hyper_base", {"M.hc_pre.hc_head.hc_head_base", "M.hc_head.hc_base", "M.hc_head_base"}, {}},
    {"attn.hyper_fn", {"L.hc_pre.hc_attn_layer.hc_fn", "L.hc_attn_fn", "L.attn_hc.fn"}, {}},
    {"attn.hyper_scale", {"L.hc_pre.hc_attn_layer.hc_scale", "L.hc_attn_scale", "L.attn_hc.scale"}, {}},
    {"attn.hyper_base", {"L.hc_pre.hc_attn_layer.hc_base", "L.hc_attn_base", "L.attn_hc.base"}, {}},
    {"ffn.hyper_fn", {"L.hc_pre.hc_mlp_layer.hc_fn", "L.hc_ffn_fn", "L.ffn_hc.fn"}, {}},
    {"ffn.hyper_scale", {"L.hc_pre.hc_mlp_layer.hc_scale", "L.hc_ffn_scale", "L.ffn_hc.scale"}, {}},
    {"ffn.hyper_base", {"L.hc_pre.hc_mlp_layer.hc_base", "L.hc_ffn_base", "L.ffn_hc.base"}, {}},
    {"attn.norm",
     {"L.input_layernorm", "L.ln_1", "L.self_attn_layer_norm", "L.attention_layernorm", "L.norm_1",
      "L.norm_attn_norm.norm_1", "L.ln_attn", "L.attn_norm", "L.operator_norm", "L.temporal_pre_norm", "L.ln1",
      "L.attention_layer_norm", "L.norm", "L.shared_transformer.input_layernorm", "L.shared_transf.input_layernorm"},
     {"L.attn_norm"}},
    {"attn.q",
     {"L.self_attn.q_proj", "L.attn.q_proj", "L.attn.attention.q_proj", "L.temporal_block.q_proj", "L.mixer.q_proj",
      "L.shared_transformer.self_attn.q_proj", "L.shared_transf.self_attn.q_proj"},
     {"L.attn_q"}},
    {"attn.k",
     {"L.self_attn.k_proj", "L.attn.k_proj", "L.attn.attention.k_proj", "L.temporal_block.k_proj", "L.mixer.k_proj",
      "L.shared_transformer.self_attn.k_proj", "L.shared_transf.self_attn.k_proj"},
     {"L.attn_k"}},
    {"attn.v",
     {"L.self_attn.v_proj", "L.attn.v_proj", "L.attn.attention.v_proj", "L.temporal_block.v_proj", "L.mixer.v_proj",
      "L.shared_transformer.self_attn.v_proj", "L.shared_transf.self_attn.v_proj"},
     {"L.attn_v"}},
    {"attn.qkv",
     {"L.self_attn.qkv_proj", "L.self_attention.query_key_value", "L.attention.query_key_value",
      "L.self_attn.query_key_value", "L.attn.c_attn", "L.attn.qkv_proj", "L.attn.Wqkv", "L.norm_attn_norm.attn.Wqkv"},
     {"L.attn_qkv"}},
    {"attn.o",
     {"L.self_attn.o_proj", "L.self_attn.out_proj", "L.self_attn.dense", "L.self_attention.dense", "L.attention.dense",
      "L.attn.c_proj", "L.attn.out_proj", "L.attn.attention.out_proj", "L.attn.Wo", "L.norm_attn_norm.attn.out_proj",
      "L.temporal_block.o_proj", "L.mixer.o_proj", "L.shared_transformer.self_attn.o_proj",
      "L.shared_transf.self_attn.o_proj"},
     {"L.attn_output"}},
    {"attn.gate", {"L.self_attn.gate_proj", "L.self_attn.g_proj", "L.self_attn.linear_gate"}, {"L.attn_gate"}},
    {"attn.sinks",
     {"L.self_attn.sinks", "L.self_attn.attention_sink_bias", "L.self_attn.learnable_sink_param", "L.attn.attn_sink"},
     {"L.attn_sinks"}},
    {"attn.mask", {"L.self_attn.dt_proj"}, {}},
    {"attn.mask_rate", {"L.self_attn.A"}, {}},
    {"attn.router", {"L.self_attention.experts.router.layer"}, {}},
    {"attn.kv", {"L.self_attention.kv_proj"}, {}},
    {"attn.all.q", {"L.self_attention.experts.input_linear"}, {}},
    {"attn.all.o", {"L.self_attention.experts.output_linear"}, {}},
    {"attn.out", {"L.self_attention.experts"}, {}},
    {"attn.lambda_q1", {"L.self_attn.lambda_q1"}, {}},
    {"attn.lambda_q2", {"L.self_attn.lambda_q2"}, {}},
    {"attn.lambda_k1", {"L.self_attn.lambda_k1"}, {}},
    {"attn.lambda_k2", {"L.self_attn.lambda_k2"}, {}},
    {"attn.q_norm",
     {"L.self_attn.q_norm", "L.self_attn.q_layernorm", "L.self_attn.query_layernorm"},
     {"L.attn_q_norm"}},
    {"attn.k_norm", {"L.self_attn.k_norm", "L.self_attn.k_layernorm", "L.self_attn.key_layernorm"}, {"L.attn_k_norm"}},
    {"attn.q_norm.head", {"L.self_attn.q_layernorm.norms.E"}, {}},
    {"attn.k_norm.head", {"L.self_attn.k_layernorm.norms.E"}, {}},
    {"attn.v_norm", {}, {}},
    {"attn.out_norm", {"L.self_attn.attn_sub_norm"}, {"L.attn_sub_norm"}},
    {"attn.post_norm",
     {"L.post_self_attn_layernorm", "L.post_norm1", "L.post_attention_layernorm", "L.feedforward_layer_norm"},
     {"L.post_attention_norm"}},
    {"attn.after", {"L.self_attn_layer_norm", "L.ln_1"}, {}},
    {"attn.residual", {"L.input_residual"}, {}},
    {"mla.q_a", {"L.self_attn.q_a_proj", "L.attn.wq_a"}, {"L.attn_q_a"}},
    {"mla.q_b", {"L.self_attn.q_b_proj", "L.attn.wq_b"}, {"L.attn_q_b"}},
    {"mla.q_norm", {"L.self_attn.q_a_layernorm", "L.attn.q_norm", "L.self_attn.q_a_norm"}, {"L.attn_q_a_norm"}},
    {"mla.kv_a", {"L.self_attn.kv_a_proj_with_mqa"}, {"L.attn_kv_a_mqa"}},
    {"mla.kv_norm", {"L.self_attn.kv_a_layernorm"}, {"L.attn_kv_a_norm"}},
    {"mla.kv_b", {"L.self_attn.kv_b_proj"}, {"L.attn_kv_b"}},
    {"mla.k_b", {}, {"L.attn_k_b"}},
    {"mla.v_b", {}, {"L.attn_v_b"}},
    {"shared_kv", {"L.attn.wkv", "L.self_attn.kv_proj"}, {}},
    {"shared_kv.norm", {"L.attn.kv_norm", "L.attn.norm", "L.self_attn.kv_norm"}, {}},
    {"shared_kv.o_a", {"L.attn.wo_a", "L.self_attn.o_a_proj"}, {}},
    {"shared_kv.o_b", {"L.attn.wo_b", "L.self_attn.o_b_proj"}, {}},
    {"compress.kv", {"L.attn.compressor.wkv", "L.self_attn.compressor.kv_proj"}, {}},
    {"compress.gate", {"L.attn.compressor.wgate", "L.self_attn.compressor.gate_proj"}, {}},
    {"compress.in", {}, {}},
    {"compress.position", {"L.attn.compressor.ape", "L.self_attn.compressor.position_bias"}, {}},
    {"compress.norm", {"L.attn.compressor.norm", "L.self_attn.compressor.kv_norm"}, {}},
    {"index.compress.kv", {"L.attn.indexer.compressor.wkv", "L.self_attn.compressor.indexer.kv_proj"}, {}},
    {"index.compress.gate", {"L.attn.indexer.compressor.wgate", "L.self_attn.compressor.indexer.gate_proj"}, {}},
    {"index.compress.in", {}, {}},
    {"index.compress.position", {"L.attn.indexer.compressor.ape", "L.self_attn.compressor.indexer.position_bias"}, {}},
    {"index.compress.norm", {"L.attn.indexer.compressor.norm", "L.self_attn.compressor.indexer.kv_norm"}, {}},
    {"index.q",
     {"L.self_attn.indexer.wq_b", "L.self_attn.compressor.indexer.q_b_proj", "L.attn.indexer.wq_b"},
     {"L.indexer.attn_q_b"}},
    {"index.k", {"L.self_attn.indexer.wk"}, {"L.indexer.attn_k"}},
    {"index.k_norm", {"L.self_attn.indexer.k_norm"}, {"L.indexer.k_norm"}},
    {"index.weights",
     {"L.self_attn.indexer.weights_proj", "L.self_attn.compressor.indexer.scorer.weights_proj",
      "L.attn.indexer.weights_proj"},
     {"L.indexer.proj"}},
    {"ffn.norm",
     {"L.pre_feedforward_layernorm", "L.pre_mlp_layernorm", "L.pre_ff_layernorm", "L.ln_2", "L.norm_2",
      "L.norm_attn_norm.norm_2", "L.ln_mlp", "L.mlp_norm", "L.ffn_norm", "L.feedforward_layernorm",
      "L.feedforward_layer_norm", "L.channel_pre_norm", "L.final_layer_norm", "L.ln2", "L.post_attention_layernorm",
      "L.norm", "L.shared_transformer.pre_ff_layernorm", "L.shared_transf.pre_ff_layernorm"},
     {"L.ffn_norm", "L.post_attention_norm"}},
    {"ffn.gate",
     {"L.mlp.gate_proj", "L.feed_forward.gate_proj", "L.feed_forward.w1", "L.mlp_block.gate_proj",
      "L.block_sparse_moe.gate_proj", "L.mlp.linear_gate", "L.shared_transf.feed_forward.gate_proj"},
     {"L.ffn_gate"}},
    {"ffn.up",
     {"L.mlp.up_proj", "L.feed_forward.up_proj", "L.feed_forward.w3", "L.mlp.fc1", "L.fc1", "L.mlp.fc_in", "L.mlp.c_fc",
      "L.mlp.dense_h_to_4h", "L.ffn.up_proj", "L.mlp_block.up_proj", "L.block_sparse_moe.up_proj", "L.mixer.up_proj",
      "L.shared_transf.feed_forward.up_proj"},
     {"L.ffn_up"}},
    {"ffn.gate_up", {"L.mlp.gate_up_proj", "L.mlp.Wi", "L.shared_transformer.feed_forward.gate_up_proj"}, {"L.ffn_up"}},
    {"ffn.down",
     {"L.mlp.down_proj", "L.feed_forward.down_proj", "L.feed_forward.w2", "L.mlp.fc2", "L.fc2", "L.mlp.fc_out",
      "L.mlp.c_proj", "L.mlp.dense_4h_to_h", "L.ffn.down_proj", "L.mlp_block.down_proj", "L.block_sparse_moe.down_proj",
      "L.mlp.Wo", "L.shared_transformer.feed_forward.down_proj", "L.shared_transf.feed_forward.down_proj"},
     {"L.ffn_down"}},
    {"ffn.inner_norm", {"L.mlp.ffn_sub_norm"}, {"L.ffn_sub_norm"}},
    {"ffn.alpha_p", {"L.mlp.act_fn.alpha_p"}, {}},
    {"ffn.alpha_n", {"L.mlp.act_fn.alpha_n"}, {}},
    {"ffn.beta", {"L.mlp.act_fn.beta"}, {}},
    {"ffn.eps", {"L.mlp.act_fn.eps"}, {}},
    {"ffn.post_norm", {"L.post_mlp_layernorm", "L.post_norm2", "L.post_feedforward_layernorm"}, {"L.post_ffw_norm"}},
    {"ffn.after", {"L.final_layer_norm", "L.ln_2"}, {}},
    {"ffn.residual", {"L.post_attention_residual"}, {}},
    {"embed.layers", {"M.embed_tokens_per_layer"}, {}},
    {"embed.layer_proj", {"M.per_layer_model_projection"}, {}},
    {"embed.layer_norm", {"M.per_layer_projection_norm"}, {}},
    {"layer.gate", {"L.per_layer_input_gate"}, {}},
    {"layer.up", {"L.per_layer_projection"}, {}},
    {"layer.post_norm", {"L.post_per_layer_input_norm"}, {}},
    {"layer.residual", {}, {}},
    {"layer.scale", {"L.layer_scalar"}, {"L.layer_output_scale"}},
    {"given.norm", {"L.mamba_decoder.input_layernorm"}, {}},
    {"given.residual", {}, {}},
    {"matrix", {"L.linear"}, {}},
    {"matrix.down", {"L.laurel.linear_left"}, {}},
    {"matrix.up", {"L.laurel.linear_right"}, {}},
    {"matrix.post_norm", {"L.laurel.post_laurel_norm"}, {}},
    {"matrix.residual", {}, {}},
    {"altup.norm", {"L.altup.router_norm"}, {}},
    {"altup.router", {"L.altup.modality_router"}, {}},
    {"altup.predict", {"L.altup.prediction_coefs"}, {}},
    {"altup.correct", {"L.altup.correction_coefs"}, {}},
    {"altup.scale", {"L.altup.correct_output_scale"}, {}},
    {"embed.stream", {"M.altup_projections.E"}, {}},
    {"head.stream", {"M.altup_unembed_projections.E"}, {}},
    {"attn.q.adapter_down", {"L.shared_transformer.self_attn.linear_q_adapter_list.E.0"}, {}},
    {"attn.q.adapter_up", {"L.shared_transformer.self_attn.linear_q_adapter_list.E.1"}, {}},
    {"attn.k.adapter_down", {"L.shared_transformer.self_attn.linear_k_adapter_list.E.0"}, {}},
    {"attn.k.adapter_up", {"L.shared_transformer.self_attn.linear_k_adapter_list.E.1"}, {}},
    {"attn.v.adapter_down", {"L.shared_transformer.self_attn.linear_v_adapter_list.E.0"}, {}},
    {"attn.v.adapter_up", {"L.shared_transformer.self_attn.linear_v_adapter_list.E.1"}, {}},
    {"ffn.adapter_down", {"L.shared_transformer.feed_forward.gate_up_proj_adapter_list.E.0"}, {}},
    {"ffn.adapter_up", {"L.shared_transformer.feed_forward.gate_up_proj_adapter_list.E.1"}, {}},
    {"rec.in",
     {"L.mixer.in_proj", "L.mamba.in_proj", "L.conv.in_proj", "L.temporal_block.linear_x",
      "L.mamba_decoder.mamba.in_proj"},
     {"L.ssm_in"}},
    {"rec.out",
     {"L.mixer.out_proj", "L.mamba.out_proj", "L.conv.out_proj", "L.temporal_block.linear_out",
      "L.linear_attn.out_proj", "L.linear_attn.o_proj", "L.self_attn.out_proj", "L.self_attn.o_proj",
      "L.mamba_decoder.mamba.out_proj"},
     {"L.ssm_out"}},
    {"rec.conv",
     {"L.mixer.conv1d", "L.mamba.conv1d", "L.conv.conv", "L.temporal_block.conv_1d", "L.linear_attn.conv1d",
      "L.mamba_decoder.mamba.conv1d"},
     {"L.ssm_conv1d"}},
    {"rec.conv_q", {"L.linear_attn.q_conv1d", "L.self_attn.q_conv1d"}, {}},
    {"rec.conv_k", {"L.linear_attn.k_conv1d", "L.self_attn.k_conv1d"}, {}},
    {"rec.conv_v", {"L.linear_attn.v_conv1d", "L.self_attn.v_conv1d"}, {}},
    {"rec.qkvz", {"L.linear_attn.in_proj_qkvz"}, {}},
    {"rec.ba", {"L.linear_attn.in_proj_ba"}, {}},
    {"rec.qkv", {"L.linear_attn.in_proj_qkv", "L.self_attn.qkv_proj"}, {}},
    {"rec.q", {"L.linear_attn.q_proj", "L.self_attn.q_proj"}, {}},
    {"rec.k", {"L.linear_attn.k_proj", "L.self_attn.k_proj"}, {}},
    {"rec.v", {"L.linear_attn.v_proj", "L.self_attn.v_proj"}, {}},
    {"rec.z",
     {"L.linear_attn.in_proj_z", "L.linear_attn.g_proj", "L.self_attn.g_a_proj", "L.self_attn.output_gate",
      "L.temporal_block.linear_y"},
     {}},
    {"rec.z_up", {"L.self_attn.g_b_proj"}, {}},
    {"rec.a", {"L.linear_attn.in_proj_a", "L.linear_attn.a_proj", "L.self_attn.f_a_proj"}, {}},
    {"rec.a_up", {"L.self_attn.f_b_proj"}, {}},
    {"rec.b", {"L.linear_attn.in_proj_b", "L.linear_attn.b_proj", "L.self_attn.b_proj"}, {}},
    {"rec.a_log",
     {"L.mixer.A_log", "L.mamba.A_log", "L.linear_attn.A_log", "L.self_attn.A_log", "L.mamba_decoder.mamba.A_log"},
     {}},
    {"rec.dt",
     {"L.mixer.dt", "L.mamba.dt", "L.linear_attn.dt", "L.self_attn.dt", "L.mamba_decoder.mamba.dt", "L.mixer.dt_proj",
      "L.mamba.dt_proj", "L.mamba_decoder.mamba.dt_proj"},
     {}},
    {"rec.skip", {"L.mixer.D", "L.mamba.D", "L.mamba_decoder.mamba.D"}, {"L.ssm_d"}},
    {"rec.norm",
     {"L.mixer.norm", "L.mamba.norm", "L.linear_attn.norm", "L.linear_attn.o_norm", "L.self_attn.o_norm",
      "L.self_attn.norm", "L.mamba_decoder.mamba.norm"},
     {"L.ssm_norm"}},
    {"rec.low", {"L.mixer.x_proj", "L.mamba.x_proj", "L.mamba_decoder.mamba.x_proj"}, {}},
    {"rec.dt_norm", {"L.mamba.dt_layernorm"}, {}},
    {"rec.b_norm", {"L.mamba.b_layernorm"}, {}},
    {"rec.c_norm", {"L.mamba.c_layernorm"}, {}},
    {"rec.slope", {"L.self_attn.slope_rate"}, {}},
    {"rec.near", {"L.self_attn.diagonal_decay"}, {}},
    {"rec.enter", {"L.self_attn.query_decay"}, {}},
    {"rec.leave", {"L.self_attn.key_decay"}, {}},
    {"rec.input_gate", {"L.temporal_block.rg_lru.input_gate"}, {}},
    {"rec.decay_gate", {"L.temporal_block.rg_lru.recurrent_gate"}, {}},
    {"rec.lru", {"L.temporal_block.rg_lru.recurrent_param"}, {}},
    {"rwkv.time.key", {"L.attention.key"}, {}},
    {"rwkv.time.value", {"L.attention.value"}, {}},
    {"rwkv.time.receptance", {"L.attention.receptance"}, {}},
    {"rwkv.time.output", {"L.attention.output"}, {}},
    {"rwkv.time.decay", {"L.attention.time_decay"}, {}},
    {"rwkv.time.first", {"L.attention.time_first"}, {}},
    {"rwkv.time.mix_k", {"L.attention.time_mix_key"}, {}},
    {"rwkv.time.mix_v", {"L.attention.time_mix_value"}, {}},
    {"rwkv.time.mix_r", {"L.attention.time_mix_receptance"}, {}},
    {"rwkv.channel.key", {"L.feed_forward.key"}, {}},
    {"rwkv.channel.value", {"L.feed_forward.value"}, {}},
    {"rwkv.channel.receptance", {"L.feed_forward.receptance"}, {}},
    {"rwkv.channel.mix_k", {"L.feed_forward.time_mix_key"}, {}},
    {"rwkv.channel.mix_r", {"L.feed_forward.time_mix_receptance"}, {}},
    {"moe.router",
     {"L.mlp.gate", "L.mlp.router", "L.mlp.router.gate", "L.block_sparse_moe.gate", "L.block_sparse_moe.router.layer",
      "L.block_sparse_moe.router", "L.feed_forward.router", "L.feed_forward.gate", "L.mlp.router.layer",
      "L.mlp.gate.wg", "L.ffn.router.layer", "L.ffn.gate", "L.mixer.gate", "L.router.proj"},
     {"L.ffn_gate_inp"}},
    {"moe.router_norm", {"L.router.scale"}, {}},
    {"moe.norm", {"L.pre_feedforward_layernorm_2"}, {}},
    {"moe.post_norm", {"L.post_feedforward_layernorm_2"}, {}},
    {"moe.expert_scale", {"L.router.per_expert_scale"}, {}},
    {"moe.choice",
     {"L.mlp.gate.e_score_correction", "L.mlp.e_score_correction", "L.mlp.expert",
      "L.mlp.moe_statics.e_score_correction", "L.block_sparse_moe.e_score_correction",
      "L.block_sparse_moe.gate.e_score_correction", "L.mlp.experts.e_score_correction", "L.feed_forward.expert",
      "L.mixer.gate.e_score_correction", "L.ffn.gate.e_score_correction", "L.ffn.gate"},
     {"L.exp_probs_b"}},
    {"moe.by_token", {"L.ffn.gate.tid2eid", "L.mlp.gate.tid2eid"}, {}},
    {"moe.gate",
     {"L.mlp.experts.E.gate_proj", "L.block_sparse_moe.experts.E.w1", "L.feed_forward.experts.E.gate_proj",
      "L.feed_forward.experts.E.w1", "L.ffn.experts.E.w1"},
     {}},
    {"moe.up",
     {"L.mlp.experts.E.up_proj", "L.block_sparse_moe.experts.E.w3", "L.feed_forward.experts.E.up_proj",
      "L.feed_forward.experts.E.w3", "L.ffn.experts.E.w3", "L.mixer.experts.E.up_proj"},
     {}},
    {"moe.down",
     {"L.mlp.experts.E.down_proj", "L.block_sparse_moe.experts.E.w2", "L.feed_forward.experts.E.down_proj",
      "L.feed_forward.experts.E.w2", "L.ffn.experts.E.w2", "L.mixer.experts.E.down_proj"},
     {}},
    {"moe.all.gate", {"L.ffn.experts.mlp.w1"}, {"L.ffn_gate_exps"}},
    {"moe.all.up", {"L.ffn.experts.mlp.v1"}, {"L.ffn_up_exps"}},
    {"moe.all.gate_up",
     {"L.mlp.experts.gate_up_proj", "L.block_sparse_moe.input_linear", "L.mlp.input_linear",
      "L.block_sparse_moe.experts.gate_up_proj", "L.feed_forward.experts.gate_up_proj", "L.mlp.experts.fc1",
      "L.experts.gate_up_proj"},
     {"L.ffn_gate_up_exps"}},
    {"moe.all.down",
     {"L.mlp.experts.down_proj", "L.block_sparse_moe.output_linear", "L.mlp.output_linear",
      "L.block_sparse_moe.experts.down_proj", "L.feed_forward.experts.down_proj", "L.mlp.experts.fc2",
      "L.ffn.experts.mlp.w2", "L.experts.down_proj"},
     {"L.ffn_down_exps"}},
    {"moe.out", {"L.mlp"}, {}},
    {"moe.shared.gate",
     {"L.mlp.shared_experts.gate_proj", "L.mlp.shared_expert.gate_proj", "L.mlp.shared_mlp.gate_proj",
      "L.feed_forward.shared_expert.gate_proj", "L.block_sparse_moe.shared_experts.gate_proj",
      "L.ffn.shared_experts.w1", "L.mlp.shared_experts.linear_gate", "L.mlp.gate_proj"},
     {"L.ffn_gate_shexp"}},
    {"moe.shared.up",
     {"L.mlp.shared_experts.up_proj", "L.mlp.shared_expert.up_proj", "L.mlp.shared_mlp.up_proj",
      "L.feed_forward.shared_expert.up_proj", "L.block_sparse_moe.shared_experts.up_proj", "L.ffn.shared_experts.w3",
      "L.mixer.shared_experts.up_proj", "L.mlp.up_proj"},
     {"L.ffn_up_shexp"}},
    {"moe.shared.gate_up", {"L.shared_mlp.input_linear"}, {}},
    {"moe.shared.down",
     {"L.mlp.shared_experts.down_proj", "L.mlp.shared_expert.down_proj", "L.mlp.shared_mlp.down_proj",
      "L.feed_forward.shared_expert.down_proj", "L.block_sparse_moe.shared_experts.down_proj",
      "L.ffn.shared_experts.w2", "L.mixer.shared_experts.down_proj", "L.shared_mlp.output_linear", "L.mlp.down_proj"},
     {"L.ffn_down_shexp"}},
    {"moe.shared.inner_norm", {}, {}},
    {"moe.shared.post_norm", {"L.post_feedforward_layernorm_1"}, {}},
    {"moe.shared.out_gate", {"L.mlp.shared_expert_gate"}, {"L.ffn_gate_inp_shexp"}},
};

// Where Hugging Face checkpoints keep the decoder: known by the embedding table and the first layer.
struct Root {
  std::string_view embed, prefix, layers;
};
constexpr Root kRoots[] = {
    {"model.embed_tokens", "model.", "layers."},
    {"language_model.model.embed_tokens", "language_model.model.", "layers."},
    {"model.language_model.embed_tokens", "model.language_model.", "layers."},
    {"embed_tokens", "", "layers."},
    {"model.decoder.embed_tokens", "model.decoder.", "layers."},
    {"biogpt.embed_tokens", "biogpt.", "layers."},
    {"transformer.wte", "transformer.", "blocks."},
    {"transformer.wte", "transformer.", "h."},
    {"transformer.word_embeddings", "transformer.", "h."},
    {"transformer.tokens_embed", "transformer.", "h."},
    {"gpt_neox.embed_in", "gpt_neox.", "layers."},
    {"gpt_neox_japanese.embed_in", "gpt_neox_japanese.", "layers."},
    {"backbone.embeddings", "backbone.", "layers."},
    {"rwkv.embeddings", "rwkv.", "blocks."},
    {"model.embeddings.tok_embeddings", "model.", "layers."},
};

// Tensors that bind does not ask for: rope frequencies (Meta reads them), masks, constants that follow from others, and
// the towers of multi-modal
// checkpoints.
constexpr std::string_view kIgnoredParts[] = {
    "rotary_emb.inv_freq", "rope_freqs.weight",        "rope_factors_",       "vision_tower.",
    "audio_tower.",        "model.embed_vision.",      "model.embed_audio.",  "multi_modal_projector.",
    "masked_bias",         "self_attn.diagonal_decay", "self_attn.key_decay", "self_attn.query_decay"};

// Architectures whose files spell a tensor in another way than most. "+": a norm beside a second one of the same input.
struct OwnSpelling {
  std::string_view architecture, canonical, gguf;
};
constexpr OwnSpelling kOwnSpellings[] = {
    {"gpt-oss", "ffn.norm", "L.post_attention_norm"}, {"seed_oss", "ffn.norm", "L.post_attention_norm"},
    {"glm4moe", "ffn.norm", "L.post_attention_norm"}, {"falcon", "ffn.norm", "L.attn_norm"},
    {"falcon", "attn.norm+", "L.attn_norm_2"},        {"dbrx", "ffn.norm", "L.attn_output_norm"},
    {"lfm2", "final_norm", "token_embd_norm"},        {"lfm2", "rec.in", "L.shortconv.in_proj"},
    {"lfm2", "rec.conv", "L.shortconv.conv"},         {"lfm2", "rec.out", "L.shortconv.out_proj"},
    {"lfm2moe", "final_norm", "token_embd_norm"},     {"lfm2moe", "rec.in", "L.shortconv.in_proj"},
    {"lfm2moe", "rec.conv", "L.shortconv.conv"},      {"lfm2moe", "rec.out", "L.shortconv.out_proj"}};

std::string_view gguf_architecture_of(const Checkpoint& checkpoint) {
  const auto it = checkpoint.metadata().find("general.architecture");
  return it != checkpoint.metadata().end() && it->is_string() ? std::string_view(it->get_ref<const std::string&>())
                                                              : "";
}

const TensorRow& row_of(std::string_view stem) {
  for (const TensorRow& row : kTensors) {
    if (row.canonical == stem) return row;
  }
  fail(ErrorKind::kUnsupported, "no spelling is known for tensor \"{}\"", stem);
}

}  // namespace

std::string gguf_tensor_name(std::string_view architecture, std::string_view canonical, int64_t layer) {
  const size_t dot = canonical.rfind('.');
  const std::string_view stem = canonical.substr(0, dot);
  std::string_view spelling = row_of(stem.ends_with('+') ? stem.substr(0, dot - 1) : stem).gguf.front();
  for (const OwnSpelling& own : kOwnSpellings) {
    if (own.architecture == architecture && own.canonical == stem) spelling = own.gguf;
  }
  if (spelling.empty()) return {};
  const std::string_view end = canonical.substr(dot);
  if (spelling.starts_with("L.")) return fmt::format("blk.{}.{}{}", layer, spelling.substr(2), end);
  return fmt::format("{}{}", spelling, end);
}

TensorNames::TensorNames(const Checkpoint& checkpoint, std::span<const std::string> stored, bool dry)
    : checkpoint_(checkpoint), prefix_(kRoots[0].prefix), layers_(kRoots[0].layers) {
  if (checkpoint.dummy() != nullptr) dummies_ = std::make_unique<DummyTensors>(checkpoint, stored, dry);
  for (const Root& root : kRoots) {
    if (checkpoint.find(std::string(root.embed) + ".weight") == nullptr) continue;
    const std::string first = fmt::format("{}{}0.", root.prefix, root.layers);
    bool layered = false;
    for (const SourceTensor& tensor : checkpoint.tensors()) layered = layered || tensor.name.starts_with(first);
    if (!layered) continue;
    prefix_ = root.prefix;
    layers_ = root.layers;
    break;
  }
}

std::vector<std::string> TensorNames::spellings(std::string_view canonical, int64_t layer, int64_t expert) const {
  const size_t dot = canonical.rfind('.');
  const TensorRow& row = row_of(canonical.substr(0, dot));
  const bool gguf = checkpoint_.kind() == Checkpoint::Kind::kGguf;
  const std::string end(canonical.substr(dot + 1));
  std::vector<std::string> names;
  const auto add = [&](std::string_view spelling) {
    if (spelling.empty()) return;
    std::string name(spelling);
    if (spelling.starts_with("L.")) {
      name = gguf ? fmt::format("blk.{}.{}", layer, spelling.substr(2))
                  : fmt::format("{}{}{}.{}", prefix_, layers_, layer, spelling.substr(2));
    } else if (spelling.starts_with("M.")) {
      name = fmt::format("{}{}", prefix_, spelling.substr(2));
    }
    const size_t at = name.find(".E");
    const bool per_expert = at != std::string::npos && (at + 2 == name.size() || name[at + 2] == '.');
    if (per_expert) name.replace(at + 1, 1, std::to_string(expert));
    names.push_back(name + "." + end);
    if (gguf) return;
    names.push_back(name + "_" + end);
    if (end == "weight") names.push_back(name);
  };
  if (gguf) {
    const std::string_view architecture = gguf_architecture_of(checkpoint_);
    for (const OwnSpelling& own : kOwnSpellings) {
      const bool same = own.canonical == row.canonical || own.canonical == std::string(row.canonical) + "+";
      if (own.architecture == architecture && same) add(own.gguf);
    }
    for (const std::string_view spelling : row.gguf) add(spelling);
  } else {
    for (const std::string_view spelling : row.hf) add(spelling);
  }
  return names;
}

// A bias belongs to the weight beside it: where blocks share spellings (an output projection's), another one's bias
// must not be taken. Empty where there is no such weight, or for anything but a bias.
std::string TensorNames::stem_of_weight(std::string_view canonical, int64_t layer, int64_t expert) const {
  const size_t dot = canonical.rfind('.');
  if (canonical.substr(dot) != ".bias") return {};
  for (const std::string& name : spellings(std::string(canonical.substr(0, dot)) + ".weight", layer, expert)) {
    if (checkpoint_.find(name) != nullptr && name.ends_with(".weight")) return name.substr(0, name.size() - 7);
  }
  return {};
}

const SourceTensor* TensorNames::find(std::string_view canonical, int64_t layer, int64_t expert) {
  if (dummies_ != nullptr) return dummies_->has(canonical) ? &need(canonical, layer, expert) : nullptr;
  const std::string beside = stem_of_weight(canonical, layer, expert);
  for (const std::string& name : spellings(canonical, layer, expert)) {
    if (!name.starts_with(beside)) continue;
    if (const SourceTensor* tensor = checkpoint_.find(name)) {
      used_.insert(name);
      found_.insert(tensor);
      if (record_ != nullptr) record_->push_back({std::string(canonical), layer, expert, tensor});
      return tensor;
    }
  }
  return nullptr;
}

const SourceTensor& TensorNames::need(std::string_view canonical, int64_t layer, int64_t expert) {
  if (dummies_ != nullptr) return **found_.insert(&dummies_->get(canonical, layer, expert)).first;
  if (const SourceTensor* tensor = find(canonical, layer, expert)) return *tensor;
  constexpr int kMostNamed = 3;
  std::string names;
  int named = 0;
  for (const std::string& name : spellings(canonical, layer, expert)) {
    if (!name.ends_with('.' + std::string(canonical.substr(canonical.rfind('.') + 1)))) continue;
    if (++named <= kMostNamed) names += (names.empty() ? "" : " or ") + name;
  }
  fail(ErrorKind::kCorrupt, "{}: tensor {} is missing; the checkpoint does not match its configuration",
       checkpoint_.path(), names);
}

const SourceTensor& TensorNames::need_integers(std::string_view canonical, int64_t layer) {
  for (const std::string& name : spellings(canonical, layer, -1)) {
    if (const SourceTensor* tensor = checkpoint_.find_integers(name)) return *tensor;
  }
  if (dummies_ != nullptr)
    fail(ErrorKind::kUnsupported, "{}: no dummies are made of tables such as {}", checkpoint_.path(), canonical);
  return need(canonical, layer);  // says what is missing
}

int64_t TensorNames::parameters() const {
  int64_t count = 0;
  for (const SourceTensor* tensor : found_) count += tensor->shape.elements();
  return count;
}

void TensorNames::check_all_used() const {
  for (const SourceTensor& tensor : checkpoint_.tensors()) {
    if (used_.contains(tensor.name)) continue;
    bool ignored = false;
    for (const std::string_view part : kIgnoredParts) ignored = ignored || tensor.name.find(part) != std::string::npos;
    if (ignored) continue;
    fail(ErrorKind::kUnsupported,
         "{}: tensor {} belongs to no mechanism that Baize computes for this architecture; running without it would "
         "give wrong answers",
         checkpoint_.path(), tensor.name);
  }
}

}  // namespace baize
