// ModelSpec: what a checkpoint computes, as pure data: no tensors, no devices, no names of files or families. A family
// file writes one from a checkpoint's metadata; bind and forward read it. Compared with ==, printed and parsed as JSON
// (inspect, tests). Kinds grow with ideas, never with models.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "ops/ops.h"

namespace baize {

struct Dims {
  int64_t hidden = 0;
  int64_t vocab = 0;
  int64_t context = 0;  // longest sequence the checkpoint was made for, or the caller configured, tokens
  friend bool operator==(const Dims&, const Dims&) = default;
};

struct NormSpec {
  bool present = false;
  float eps = 0;
  bool plus_one = false;  // stored weights lack 1; the fold pass adds it
  friend bool operator==(const NormSpec&, const NormSpec&) = default;
};

/// Rotary embedding; sources: Su et al. 2021; Chen et al. 2023 (linear); bloc97 2023 (dynamic NTK); Peng et al. 2023
/// (YaRN); Llama 3.1 (llama3); Ding et al. 2024 (longrope, as per-dimension factors).
struct RopeSpec {
  enum class Kind : uint8_t { kNone, kDefault, kLinear, kDynamic, kYarn, kLlama3, kFactors };
  Kind kind = Kind::kNone;
  int64_t rot_dim = 0;  // of head_dim; the rest passes through
  float theta = 10000;
  bool interleaved = false;
  float factor = 1;             // linear, dynamic, YaRN, llama3
  int64_t original_length = 0;  // context before extension: dynamic, YaRN, llama3
  float beta_fast = 32;         // YaRN
  float beta_slow = 1;          // YaRN
  bool truncate = true;         // YaRN: correction range in whole dimensions
  float low_freq_factor = 1;    // llama3
  float high_freq_factor = 4;   // llama3
  float attention_factor = 1;   // multiplies cosines and sines
  std::vector<float> factors;   // kFactors: divides each frequency  [rot_dim / 2]
  friend bool operator==(const RopeSpec&, const RopeSpec&) = default;
};

struct AttnSpec {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  RopeSpec rope;
  float scale = 0;          // of q . k
  float softcap = 0;        // 0: none
  int64_t window = 0;       // 0: all
  NormSpec q_norm, k_norm;  // per head; `present` says may be: the checkpoint's tensors decide
  friend bool operator==(const AttnSpec&, const AttnSpec&) = default;
};

/// down(act(gate(x)) * up(x)): Shazeer 2020.
struct DenseFfn {
  int64_t ff = 0;
  Activation activation = Activation::kSilu;
  friend bool operator==(const DenseFfn&, const DenseFfn&) = default;
};

using Block = std::variant<AttnSpec, DenseFfn>;

/// x += post(block(pre(x))).
struct Sublayer {
  NormSpec pre;
  Block block;
  NormSpec post;
  friend bool operator==(const Sublayer&, const Sublayer&) = default;
};

struct LayerSpec {
  std::vector<Sublayer> sub;
  friend bool operator==(const LayerSpec&, const LayerSpec&) = default;
};

struct EmbedSpec {
  float alpha = 1;  // multiplies the embedding
  friend bool operator==(const EmbedSpec&, const EmbedSpec&) = default;
};

struct HeadSpec {
  bool tied = false;  // the embedding table is the head, whatever else the checkpoint holds
  float softcap = 0;
  friend bool operator==(const HeadSpec&, const HeadSpec&) = default;
};

struct ModelSpec {
  Dims dims;
  EmbedSpec embed;
  std::vector<LayerSpec> layers;
  NormSpec final_norm;
  HeadSpec head;
  friend bool operator==(const ModelSpec&, const ModelSpec&) = default;
};

/// JSON text of a spec; parse_spec(print_spec(s)) == s. Throws Error(kCorrupt) for anything else.
std::string print_spec(const ModelSpec& spec);
ModelSpec parse_spec(const std::string& text);

/// Throws Error(kCorrupt) with the first contradiction (head counts that do not divide, sizes out of range, ...).
void check_spec(const ModelSpec& spec);

}  // namespace baize
