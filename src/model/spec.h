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
  bool plus_one = false;    // stored weights lack 1; the fold pass adds it
  bool center = false;      // layer norm; its bias is there if the checkpoint has one
  bool weightless = false;  // the checkpoint stores no weight: ones
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
  int64_t denominator = 0;      // of the frequencies' exponents; 0: rot_dim
  bool backwards = false;       // turns the other way
  int64_t turning = 0;          // only so many pairs turn, the others stand still; 0: all
  int64_t offset = 0;           // dimensions of a head before the rotated ones
  friend bool operator==(const RopeSpec&, const RopeSpec&) = default;
};

/// In what order the rows of a fused q|k|v matrix are stored: `groups` times what belongs to 1/groups of the heads.
struct QkvLayout {
  enum class Order : uint8_t { kQkv, kQvk };
  int64_t groups = 1;
  Order order = Order::kQkv;
  friend bool operator==(const QkvLayout&, const QkvLayout&) = default;
};

/// What a q/k norm runs over: each head; all heads at once; each head, with weights of its own.
enum class Axis : uint8_t { kHead, kAll, kEachHead };

/// Sinks, gates and biases are there if the checkpoint has their tensors.
struct AttnSpec {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  RopeSpec rope;
  float scale = 0;              // of q . k
  float softcap = 0;            // 0: none
  int64_t window = 0;           // 0: all
  NormSpec q_norm{}, k_norm{};  // `present` says may be: the checkpoint's tensors decide
  NormSpec v_norm{};            // per head
  NormSpec out_norm{};          // of what is attended, before the output matrix
  Axis norm_axis = Axis::kHead;
  bool norm_last = false;  // after the rotation
  int64_t v_dim = 0;       // of a value; 0: head_dim
  bool chunked = false;    // `window` is the length of stretches that see only themselves
  float clip = 0;          // > 0: limit of q, k and v
  float alibi = 0;         // > 0: ALiBi whose steepest slope is 2^-(alibi / heads)
  float alibi_scale = 1;   // multiplies the slopes
  float k_scale = 1, v_scale = 1;
  float temperature_scale = 0;  // queries times 1 + scale * log(1 + floor((position + offset) / length))
  int64_t temperature_length = 1, temperature_offset = 0;
  Activation gate = Activation::kSigmoid;  // of the output gate
  bool gate_in_q = false;                  // each head's rows of the query matrix are followed by its gate's
  bool values_are_keys = false;            // no value matrix: keys before norm and rotation
  float differential = 0;  // > 0: lambda_init of differential attention (Ye et al. 2024) over two halves of the heads
  int64_t keep = 0;        // > 0: dynamic mask (Doge 2025): so many keys are seen, those of the greatest learned bias
  int64_t kv_from = -1;    // this layer's keys and values instead of own ones
  int64_t width = 0;       // of what it reads; 0: the hidden size
  int64_t adapter = -1;    // which of the low-rank additions stored with the matrices is its; -1: none
  QkvLayout layout;
  friend bool operator==(const AttnSpec&, const AttnSpec&) = default;
};

/// Sparse indexer (DeepSeek-V3.2 2025): a narrow attention with cached keys of its own chooses what a token sees.
struct IndexerSpec {
  int64_t top_k = 0;  // positions; 0: there is none, and all are seen
  int64_t heads = 0, head_dim = 0;
  RopeSpec rope;
  NormSpec k_norm{};
  bool shared = false;  // the choice of the last layer that made one
  friend bool operator==(const IndexerSpec&, const IndexerSpec&) = default;
};

/// Multi-head latent attention (DeepSeek-V2 2024): keys and values are made of one cached vector of `kv_rank` a token,
/// and of `rope_dim` rotated dimensions shared by all heads.
struct MlaSpec {
  int64_t heads = 0;
  int64_t nope_dim = 0, rope_dim = 0, v_dim = 0;
  int64_t q_rank = 0;  // 0: queries are not compressed
  int64_t kv_rank = 0;
  RopeSpec rope;
  float scale = 0;
  NormSpec q_norm{}, kv_norm{};
  bool gated = false;
  IndexerSpec indexer{};
  friend bool operator==(const MlaSpec&, const MlaSpec&) = default;
};

/// Attention of one shared key that is its own value, over a window and over older text in compressed entries
/// (DeepSeek-V4 2026). What is attended is turned back by its position, and mixed in groups of heads before the output.
struct CompressedAttnSpec {
  int64_t heads = 0, head_dim = 0;
  int64_t q_rank = 0;
  int64_t window = 0;
  RopeSpec rope;
  float scale = 0;
  NormSpec q_norm{}, head_norm{}, kv_norm{};  // of the compressed queries, of each query, of keys and entries
  int64_t o_groups = 1, o_rank = 0;
  int64_t rate = 0;       // tokens an entry; 0: there are none
  bool overlap = false;   // see CompressArgs
  IndexerSpec indexer{};  // chooses entries, by compressed keys of its own
  friend bool operator==(const CompressedAttnSpec&, const CompressedAttnSpec&) = default;
};

/// Feed-forward of one expert, or the only one: down(act(gate(x)) * up(x)) (Shazeer 2020), or down(act(up(x))).
struct DenseFfn {
  int64_t ff = 0;
  Activation activation = Activation::kSilu;
  bool gated = true;
  float limit = 0, up_shift = 0, sparsity = 0;  // see ActArgs
  NormSpec inner_norm{};                        // before the last matrix
  float gate_scale = 1, down_scale = 1;
  bool pairs = false;    // rows of a fused gate|up matrix alternate
  bool turned = false;   // a fused up|gate matrix holds up first
  int64_t adapter = -1;  // see AttnSpec
  friend bool operator==(const DenseFfn&, const DenseFfn&) = default;
};

/// A mixture of attention heads (Zhang et al. 2022): each expert of a token makes queries for all key heads, and brings
/// back what they attend to. `attention.heads` is key heads times top_k.
struct AttnExpertsSpec {
  AttnSpec attention;
  int64_t experts = 0;
  int64_t top_k = 0;
  friend bool operator==(const AttnExpertsSpec&, const AttnExpertsSpec&) = default;
};

/// A mixture of experts, and one that every token passes (its width in `shared`, gated if its tensor exists). What an
/// expert gives is multiplied by a factor of its own if the checkpoint has them.
struct MoeFfn {
  int64_t experts = 0;
  int64_t top_k = 0;
  DenseFfn expert;
  DenseFfn shared;  // ff 0: none
  RouteArgs::Score score = RouteArgs::Score::kSoftmax;
  int64_t groups = 1, top_groups = 1;
  bool group_by_two = true;
  bool renormalise = false;
  float norm_min = 0;
  bool softmax_last = false;
  float scale = 1;
  float sparse_mixer = 0;
  float router_softcap = 0;
  bool weigh_input = false;
  bool hashed = false;     // experts are chosen by token id
  float shared_scale = 1;  // of the shared expert, and of the routed ones:
  float routed_scale = 1;
  // Experts beside a dense feed-forward, `shared` (Gemma 4): router and experts read the residual stream by norms of
  // their own (absent: what the dense one reads), and what each half gives is normed before the sum.
  NormSpec router_norm{}, routed_norm{};
  NormSpec routed_post{}, shared_post{};
  float router_scale = 1;    // of the router's logits
  bool transposed = false;   // expert matrices are stored [k, n]
  bool turned_down = false;  // or only the last one
  friend bool operator==(const MoeFfn&, const MoeFfn&) = default;
};

/// Linear attention with decay, behind a convolution and before a gated norm; see RecurrenceArgs.
struct RecurrenceSpec {
  enum class Kind : uint8_t { kStateSpace, kDelta, kChannelDelta, kLightning };
  Kind kind = Kind::kStateSpace;
  int64_t block = 0;  // lightning: see RecurrenceArgs
  int64_t heads = 0, key_heads = 0;
  int64_t key_dim = 0, value_dim = 0;
  int64_t conv = 0;                           // tokens; 0: none
  Activation activation = Activation::kSilu;  // of the convolution
  NormSpec norm{};
  int64_t norm_groups = 1;
  bool norm_first = false;  // before the gate
  Activation gate = Activation::kSilu;
  float beta_scale = 1;
  float least_step = 0, most_step = 3e38f;
  float in_scale = 1, out_scale = 1;
  std::vector<float> in_factors{};  // of z, x, B, C and the step size; empty: ones
  friend bool operator==(const RecurrenceSpec&, const RecurrenceSpec&) = default;
};

/// Mamba: Gu & Dao 2023.
struct MambaSpec {
  int64_t width = 0, state = 0, rank = 0, conv = 0;
  Activation activation = Activation::kSilu;  // of the convolution
  int64_t heads = 1;                          // stretches of the width with a step size, B and C of their own
  NormSpec inner_norm{};                      // of the step size, B and C
  bool pairs = false;                         // rows of the first matrix alternate between x and its gate
  friend bool operator==(const MambaSpec&, const MambaSpec&) = default;
};

/// Gated short convolution (LFM2 2025).
struct ShortConvSpec {
  int64_t width = 0, conv = 0;
  friend bool operator==(const ShortConvSpec&, const ShortConvSpec&) = default;
};

/// Griffin's recurrent block (De et al. 2024).
struct LruSpec {
  int64_t width = 0, blocks = 0, conv = 0;
  Activation activation = Activation::kGeluTanh;
  friend bool operator==(const LruSpec&, const LruSpec&) = default;
};

/// RWKV-4's time mixing, or its channel mixing.
struct RwkvSpec {
  int64_t hidden = 0, width = 0;
  bool time = false;
  friend bool operator==(const RwkvSpec&, const RwkvSpec&) = default;
};

/// Per-layer embeddings (Gemma 3n, 2025): out = up(act(gate(x)) * this layer's input).
struct LayerInputSpec {
  int64_t width = 0;
  Activation activation = Activation::kGeluTanh;
  friend bool operator==(const LayerInputSpec&, const LayerInputSpec&) = default;
};

/// One matrix, or two with a narrow middle.
struct MatrixSpec {
  int64_t width = 0;  // of what it gives
  int64_t rank = 0;   // of the middle; 0: none
  friend bool operator==(const MatrixSpec&, const MatrixSpec&) = default;
};

using Block = std::variant<AttnSpec, DenseFfn, MlaSpec, MoeFfn, RecurrenceSpec, MambaSpec, ShortConvSpec, LruSpec,
                           RwkvSpec, LayerInputSpec, MatrixSpec, AttnExpertsSpec, CompressedAttnSpec>;

/// x += scale * post(block(pre(x))), by default.
struct Sublayer {
  /// What it reads: x; x beside the embedding; what the sublayer before gave, which then is not added to x; x plus
  /// that; x as AltUp corrected it, and what the sublayer gives is for the other streams.
  enum class Input : uint8_t { kStream, kWithEmbedding, kGiven, kStreamAndGiven, kCorrected };
  NormSpec pre{};
  Block block;
  NormSpec post{};
  bool parallel = false;     // reads what the sublayer before it read; without `pre`, its normed input
  bool from_normed = false;  // adds to the normed input instead of x
  bool with_input = false;   // adds what it read too, last of those that read it
  float alpha = 1;           // what it adds to, times alpha (or a vector, if the checkpoint has it)
  float scale = 1;
  NormSpec after{};  // of the sum: post-norm residuals
  Input input = Input::kStream;
  int64_t weights_of = -1;  // the layer whose weights serve this one too (Zamba 2024); -1: its own
  friend bool operator==(const Sublayer&, const Sublayer&) = default;
};

struct LayerSpec {
  std::vector<Sublayer> sub;
  bool scaled = false;  // x times a stored factor at the end
  friend bool operator==(const LayerSpec&, const LayerSpec&) = default;
};

struct EmbedSpec {
  enum class Positions : uint8_t { kNone, kLearned, kSinusoidal };
  float alpha = 1;    // multiplies the embedding
  int64_t width = 0;  // of the table, projected to the hidden size; 0: the hidden size
  Positions positions = Positions::kNone;
  int64_t position_offset = 0;  // table row of the first token
  NormSpec norm{};
  int64_t layer_inputs = 0;  // width of every layer's own input; 0: none
  friend bool operator==(const EmbedSpec&, const EmbedSpec&) = default;
};

struct HeadSpec {
  bool tied = false;  // the embedding table is the head, whatever else the checkpoint holds
  float softcap = 0;
  float alpha = 1;  // multiplies the logits
  NormSpec norm{};  // with a dense layer and an activation before the head
  Activation activation = Activation::kGelu;
  friend bool operator==(const HeadSpec&, const HeadSpec&) = default;
};

/// Alternating updates (Baykal et al. 2023): of several residual streams the layers compute one, `active`. Before a
/// layer each stream is predicted from all, after it corrected by what the layer changed.
struct AltUpSpec {
  int64_t streams = 0;  // 0: there is one, and no AltUp
  int64_t active = 0;
  bool scaled = false;  // a factor a channel of the corrected stream, for what reads it
  friend bool operator==(const AltUpSpec&, const AltUpSpec&) = default;
};

/// Hyper-connections; see HyperArgs.
struct HyperSpec {
  int64_t streams = 1;
  int64_t mix_rounds = 0;
  float magnitude = 2, eps = 1e-6f, post_eps = 0, norm_eps = 1e-6f;
  friend bool operator==(const HyperSpec&, const HyperSpec&) = default;
};

struct ModelSpec {
  Dims dims;
  EmbedSpec embed;
  std::vector<LayerSpec> layers;
  NormSpec final_norm{};
  HeadSpec head;
  AltUpSpec altup{};
  bool transposed = false;  // the blocks' matrices are stored [k, n]
  HyperSpec hyper{};
  friend bool operator==(const ModelSpec&, const ModelSpec&) = default;
};

/// JSON text of a spec; parse_spec(print_spec(s)) == s. Throws Error(kCorrupt) for anything else.
std::string print_spec(const ModelSpec& spec);
ModelSpec parse_spec(const std::string& text);

/// Throws Error(kCorrupt) with the first contradiction (head counts that do not divide, sizes out of range, ...).
void check_spec(const ModelSpec& spec);

}  // namespace baize
