#include "model/names.h"

#include <array>
#include <utility>
#include <vector>

#include "base/error.h"

namespace baize {

namespace {

struct KeyRow {
  std::string_view hf;
  std::string_view gguf;
};

constexpr KeyRow kKeys[] = {
    {"hidden_size", "embedding_length"},
    {"num_hidden_layers", "block_count"},
    {"num_attention_heads", "attention.head_count"},
    {"num_key_value_heads", "attention.head_count_kv"},
    {"head_dim", "attention.key_length"},
    {"intermediate_size", "feed_forward_length"},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
    {"max_position_embeddings", "context_length"},
    {"sliding_window", "attention.sliding_window"},
    {"sliding_window_pattern", "attention.sliding_window_pattern"},
    {"attn_logit_softcapping", "attn_logit_softcapping"},
    {"final_logit_softcapping", "final_logit_softcapping"},
    {"attention_scale", "attention.scale"},
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
};

// Canonical stem, then its spellings; the first that exists is taken. ".weight" and ".bias" are kept as they are.
// "M." stands for the model prefix, "L." for the layer prefix.
struct TensorRow {
  std::string_view canonical;
  std::array<std::string_view, 2> hf;
  std::array<std::string_view, 2> gguf;
};

constexpr TensorRow kTensors[] = {
    {"embed", {"M.embed_tokens"}, {"token_embd"}},
    {"final_norm", {"M.norm"}, {"output_norm"}},
    {"head", {"lm_head", "language_model.lm_head"}, {"output"}},
    {"attn.norm", {"L.input_layernorm"}, {"L.attn_norm"}},
    {"attn.q", {"L.self_attn.q_proj"}, {"L.attn_q"}},
    {"attn.k", {"L.self_attn.k_proj"}, {"L.attn_k"}},
    {"attn.v", {"L.self_attn.v_proj"}, {"L.attn_v"}},
    {"attn.qkv", {"L.self_attn.qkv_proj"}, {"L.attn_qkv"}},
    {"attn.o", {"L.self_attn.o_proj"}, {"L.attn_output"}},
    {"attn.q_norm", {"L.self_attn.q_norm"}, {"L.attn_q_norm"}},
    {"attn.k_norm", {"L.self_attn.k_norm"}, {"L.attn_k_norm"}},
    {"attn.post_norm", {"L.post_attention_layernorm"}, {"L.post_attention_norm"}},
    {"ffn.norm", {"L.pre_feedforward_layernorm", "L.post_attention_layernorm"}, {"L.ffn_norm"}},
    {"ffn.gate", {"L.mlp.gate_proj"}, {"L.ffn_gate"}},
    {"ffn.up", {"L.mlp.up_proj"}, {"L.ffn_up"}},
    {"ffn.gate_up", {"L.mlp.gate_up_proj"}, {"L.ffn_up"}},
    {"ffn.down", {"L.mlp.down_proj"}, {"L.ffn_down"}},
    {"ffn.post_norm", {"L.post_feedforward_layernorm"}, {"L.post_ffw_norm"}},
};

constexpr std::string_view kPrefixes[] = {"model.", "language_model.model.", "model.language_model.", ""};

// Tensors that bind does not ask for: rope frequencies (Meta reads them), and the towers of multi-modal checkpoints.
constexpr std::string_view kIgnoredParts[] = {"rotary_emb.inv_freq", "rope_freqs.weight", "rope_factors_",
                                              "vision_tower.", "multi_modal_projector."};

const TensorRow& row_of(std::string_view stem) {
  for (const TensorRow& row : kTensors) {
    if (row.canonical == stem) return row;
  }
  fail(ErrorKind::kUnsupported, "no spelling is known for tensor \"{}\"", stem);
}

}  // namespace

std::string_view gguf_key(std::string_view hf_key) {
  for (const KeyRow& row : kKeys) {
    if (row.hf == hf_key) return row.gguf;
  }
  return {};
}

TensorNames::TensorNames(const Checkpoint& checkpoint) : checkpoint_(checkpoint), prefix_(kPrefixes[0]) {
  for (const std::string_view prefix : kPrefixes) {
    if (checkpoint.find(std::string(prefix) + "embed_tokens.weight") == nullptr) continue;
    prefix_ = prefix;
    break;
  }
}

namespace {

std::vector<std::string> spellings(const Checkpoint& checkpoint, std::string_view prefix, std::string_view canonical,
                                   int64_t layer) {
  const size_t dot = canonical.rfind('.');
  const TensorRow& row = row_of(canonical.substr(0, dot));
  const bool gguf = checkpoint.kind() == Checkpoint::Kind::kGguf;
  std::vector<std::string> names;
  for (const std::string_view spelling : gguf ? row.gguf : row.hf) {
    if (spelling.empty()) continue;
    std::string name;
    if (spelling.starts_with("L.")) {
      name = gguf ? fmt::format("blk.{}.{}", layer, spelling.substr(2))
                  : fmt::format("{}layers.{}.{}", prefix, layer, spelling.substr(2));
    } else {
      name = spelling.starts_with("M.") ? fmt::format("{}{}", prefix, spelling.substr(2)) : std::string(spelling);
    }
    names.push_back(name + std::string(canonical.substr(dot)));
  }
  return names;
}

}  // namespace

const SourceTensor* TensorNames::find(std::string_view canonical, int64_t layer) {
  for (const std::string& name : spellings(checkpoint_, prefix_, canonical, layer)) {
    if (const SourceTensor* tensor = checkpoint_.find(name)) {
      used_.insert(name);
      return tensor;
    }
  }
  return nullptr;
}

const SourceTensor& TensorNames::need(std::string_view canonical, int64_t layer) {
  if (const SourceTensor* tensor = find(canonical, layer)) return *tensor;
  std::string names;
  for (const std::string& name : spellings(checkpoint_, prefix_, canonical, layer)) {
    names += (names.empty() ? "" : " or ") + name;
  }
  fail(ErrorKind::kCorrupt, "{}: tensor {} is missing; the checkpoint does not match its configuration",
       checkpoint_.path(), names);
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
