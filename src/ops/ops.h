// Ops: THE contract between the maths of a model and the hardware. `forward` calls these methods and nothing else; the
// scalar reference, the CPU and CUDA implement the do_* hooks. A pure hook is a primitive; a hook with a body is a
// composite that every backend gets free and may override, fused. All tensors of a step live in the backend's memory.
//
// Dry: over a counting arena the same calls run no kernel; they add up arena bytes, workspaces, FLOPs and bytes moved
// (StepCost), which is how memory is planned. Arguments are trivially copyable with stable addresses, so that a backend
// may record a step and replay it. Used by one thread at a time.
#pragma once

#include <cstdint>
#include <span>

#include "ops/linear.h"
#include "ops/sample.h"
#include "ops/step_input.h"
#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace baize {

/// Dtypes a backend computes with between ops, given the Compute mode.
struct Precision {
  DType act = DType::kF32;       // activations between ops
  DType residual = DType::kF32;  // the residual stream
  DType kv = DType::kF32;        // cached keys and values
};

/// RMS norm (Zhang & Sennrich 2019): x / sqrt(mean(x^2) + eps) * weight, over the last dimension. With `center`, layer
/// norm (Ba, Kiros & Hinton 2016): the mean is subtracted first; then + bias.
struct Norm {
  Tensor weight;  // f32 [dim]; absent: the norm itself is absent. Of queries and keys also [heads, dim]
  float eps = 0;
  bool center = false;
  Tensor bias = {};  // f32 as weight; absent: none
  bool present() const { return weight.present(); }
  /// What every backend computes: an RMS norm with one weight a dimension.
  bool plain() const { return !center && !bias.present() && weight.shape.rank() <= 1; }
};

/// Rotary position embedding (Su et al. 2021). Position p turns pair i by the angle p * inv_freq[i]; all load-time
/// scalings (linear, YaRN, llama3, longrope) are folded into inv_freq and scale.
struct Rope {
  Tensor inv_freq;           // f32 [rot_dim / 2]; absent: no rotation
  float scale = 1;           // multiplies cosines and sines (attention factor of YaRN and longrope)
  bool interleaved = false;  // pairs are (2i, 2i + 1) instead of (i, i + rot_dim / 2)
  int64_t offset = 0;        // dimensions of a head before the rotated ones
  // Dynamic NTK: once the sequence is longer than `dynamic_length`, angles follow from the base
  // theta * (factor * len / dynamic_length - (factor - 1))^(rot_dim / (rot_dim - 2)), len = tokens in the cache.
  float dynamic_factor = 0;  // 0: off
  float theta = 0;
  int64_t dynamic_length = 0;
  bool present() const { return inv_freq.present(); }
  int64_t rot_dim() const { return 2 * inv_freq.shape[0]; }
};

struct AttnShape {
  int64_t heads = 0;     // query heads
  int64_t kv_heads = 0;  // divides heads; query head h reads key head h / (heads / kv_heads)
  int64_t head_dim = 0;
};

/// Queries multiplied by 1 + scale * log(1 + floor((position + offset) / length)): Llama 4's attention temperature.
struct Temperature {
  float scale = 0;  // 0: none
  int64_t length = 1;
  int64_t offset = 0;
};

struct QkvArgs {
  AttnShape shape;
  Norm q_norm, k_norm;  // over head_dim, before the rotation; absent: none
  Rope rope;
  Norm v_norm = {};        // over the value dimension
  bool norm_last = false;  // q_norm and k_norm after the rotation
  bool store = true;       // false: qkv holds queries only, keys and values are another layer's
  Temperature temperature = {};
  bool plain() const {
    return q_norm.plain() && k_norm.plain() && !v_norm.present() && !norm_last && store && temperature.scale == 0 &&
           rope.offset == 0;
  }
};

struct AttnArgs {
  AttnShape shape;
  float scale = 1;       // of q . k
  float softcap = 0;     // > 0: softcap * tanh(score / softcap), before the mask
  int64_t window = 0;    // > 0: position p sees only (p - window, p]
  bool chunked = false;  // position p sees only what lies in its own stretch of `window` positions instead
  // f32 [heads]: a score that takes part in the softmax and has no value (Xiao et al. 2023); absent: none
  Tensor sinks = {};
  Tensor slopes = {};    // f32 [heads]: score -= slope * distance (ALiBi, Press et al. 2021); absent: none
  Tensor selected = {};  // i32 [rows, count]: the only positions a row sees, -1 for none; absent: all
  // Dynamic mask (Doge 2025): cached as keys of one head, what is added to the scores of each key [kv_heads]; of the
  // keys in sight only the `keep` with the greatest are seen (0: all), of equal ones the first.
  KvView key_bias = {};
  int64_t keep = 0;
  Tensor bias = {};  // f32 [rows, kv_heads, keys]: added to the scores, -inf hides; absent: none
  // Older text: a row sees all entries that are whole at its position too, each its own value; `selected` then chooses
  // among them.
  KvView entries = {};
  bool plain() const {
    return !chunked && !sinks.present() && !slopes.present() && !selected.present() && !key_bias.k.present() &&
           !bias.present() && !entries.k.present();
  }
};

/// Latent attention's queries and cache rows (DeepSeek-V2): a cached key is kv_rank values, then rope_dim rotated ones.
struct LatentArgs {
  int64_t heads = 0, nope_dim = 0, rope_dim = 0, kv_rank = 0;
  Rope rope;
};

/// Compressed keys (DeepSeek-V4 2026): every `rate` tokens leave one entry, the sum of their values weighted by a
/// softmax over the tokens of (gate + bias), channel by channel; then normed, and rotated as the first of the tokens.
/// With `overlap`, each token has two sets of values and gates: the first takes part in the entry after its own, the
/// second in its own.
struct CompressArgs {
  int64_t rate = 0;
  int64_t dim = 0;  // of an entry
  bool overlap = false;
  Tensor bias;  // f32 [rate, width], width = dim or 2 * dim
  Norm norm;
  Rope rope;
  int64_t width() const { return overlap ? 2 * dim : dim; }
};

/// Hyper-connections (Zhu et al. 2024): the residual stream is several streams side by side. With l = logits / rms(x),
/// a sublayer reads their sum weighted by sigmoid(scale[0] * l + base) + eps, and each stream takes what it gives times
/// magnitude * sigmoid(scale[1] * l + base) + post_eps. With mix_rounds > 0 (Xie et al. 2026) the streams are mixed
/// before: softmax(scale[2] * l + base) [from, to] is brought near a doubly stochastic matrix by Sinkhorn and Knopp's
/// rounds.
struct HyperArgs {
  int64_t streams = 0;
  int64_t mix_rounds = 0;
  float magnitude = 0, eps = 0, post_eps = 0;
  float norm_eps = 0;  // of rms(x)
  Tensor scale;        // f32 [1 to 3]
  Tensor base;         // f32 [logits]
};

/// A sparse indexer's choice (DeepSeek-V3.2 2025): the positions with the highest sum over heads of weight * max(0, q .
/// k).
struct SelectArgs {
  int64_t heads = 0;
  int64_t head_dim = 0;  // of all heads' only key too
  int64_t top_k = 0;
};

enum class Activation : uint8_t {
  kSilu,
  kGelu,
  kGeluTanh,
  kRelu,  // the ones above are what every backend gates with
  kRelu2,
  kGeluQuick,  // x * sigmoid(1.702 x)
  kSigmoid,
  kSoftplus,
  kTanh,
  kXielu,  // Huang & Schlag 2024
  kIdentity,
};

/// An activation with its parameters. Gated: out = act(gate) * (up + up_shift).
struct ActArgs {
  Activation kind = Activation::kSilu;
  float limit = 0;  // > 0: gate <= limit, -limit <= up <= limit beforehand
  float up_shift = 0;
  float sparsity = 0;  // > 0: gate becomes max(0, gate - mean - sparsity * deviation) of its row beforehand (Gemma 3n)
  float alpha_p = 0, alpha_n = 0, beta = 0, eps = 0;  // kXielu
  bool plain() const { return kind <= Activation::kRelu && limit == 0 && up_shift == 0 && sparsity == 0; }
};

/// Convolution over the last `width` tokens, channel by channel; the state keeps width - 1 inputs a channel.
struct ConvArgs {
  int64_t width = 0;
  Activation activation = Activation::kIdentity;
  Tensor weight;       // f32 [channels * width], oldest first
  Tensor bias = {};    // f32 [channels]; absent: none
  int64_t offset = 0;  // of its part of the state, in floats
};

/// Step sizes and decays: a = clamp(softplus(a + bias), least, most), decay = exp(-rate * a).
struct DecayArgs {
  Tensor rate;       // f32 [heads]: of an equal stretch of columns each
  Tensor bias = {};  // f32 [columns]; absent: none
  float least = 0, most = 3e38f;
};

/// Linear attention with decay: S = decay * S + beta * k (v - S^T k)^T, or without the delta S = decay * S + beta * k
/// v^T; out = S^T (q_scale * q) + skip * v. Mamba-2 (Dao & Gu 2024: q is C, k is B, beta the step size), gated delta
/// rule (Yang et al. 2024), KDA (Kimi 2025: a decay a channel), lightning attention (Qin et al. 2024: a constant one).
struct RecurrenceArgs {
  int64_t heads = 0;      // of values
  int64_t key_heads = 0;  // divides heads
  int64_t key_dim = 0, value_dim = 0;
  bool delta = false;
  bool unit_keys = false;      // q and k are brought to length 1
  bool channel_decay = false;  // a decay a key channel
  float q_scale = 1;
  Tensor rate;  // f32 [heads]: the same decay at every token; absent: see RecurrenceInputs
  Tensor skip;  // f32 [heads]; absent: none
  int64_t offset = 0;
  // Lightning attention as MiniMax-01 (2025) defines it: in blocks of so many tokens, with tables of the decays, whose
  // rounding no recurrence has. The state keeps keys and values of the current block behind S. 0: token by token.
  int64_t block = 0;
  Tensor near;   // f32 [heads * block]: of a key of the same block, by distance
  Tensor enter;  // f32 [heads * block]: of S, which is of the blocks before, by the place in the block
  Tensor leave;  // f32 [heads * block]: of a key in the S of the next block, by its place
};
struct RecurrenceInputs {
  Tensor q, k;   // [rows, key_heads * key_dim]
  Tensor v;      // [rows, heads * value_dim]
  Tensor decay;  // [rows, heads] or [rows, heads * key_dim]; absent: none
  Tensor beta;   // [rows, heads]; absent: 1
};

/// Mamba's scan (Gu & Dao 2023): s = exp(-rate * dt) * s + dt * b * x, out = s . c + skip * x, dt = softplus(dt).
struct ScanArgs {
  int64_t state = 0;  // values of s a channel
  Tensor rate;        // f32 [width * state]
  Tensor skip;        // f32 [width]
  int64_t offset = 0;
};
struct ScanInputs {
  Tensor x, dt;  // [rows, width]
  Tensor b, c;   // [rows, state]
};

/// RG-LRU (De et al. 2024): log a = -8 * rate * sigmoid(decay gate).
struct LruArgs {
  Tensor rate;  // f32 [width]
  int64_t offset = 0;
};

/// RWKV-4's time mixing (Peng et al. 2023).
struct WkvArgs {
  Tensor rate;   // f32 [width]
  Tensor first;  // f32 [width]
  int64_t offset = 0;
};

/// How a token's experts are chosen from the router's logits.
struct RouteArgs {
  enum class Score : uint8_t { kSoftmax, kSigmoid, kSqrtSoftplus, kLogit };
  Score score = Score::kSoftmax;
  int64_t top_k = 1;
  int64_t groups = 1;         // of experts; only those of the best `top_groups` can be chosen
  int64_t top_groups = 1;     // 0 or groups: all
  bool group_by_two = true;   // a group's rank is the sum of its two highest scores; false: its highest
  bool renormalise = false;   // weights of the chosen sum to 1
  float norm_min = 1e-20f;    // least sum to divide by, added (renormalise)
  bool softmax_last = false;  // weights = softmax of the chosen logits
  float scale = 1;            // multiplies the weights
  float sparse_mixer = 0;     // > 0: two experts by SparseMixer (Liu et al. 2023) with this jitter; top_k is 2
  Tensor bias = {};           // f32 [experts]: added to the scores for the choice only; absent: none
  Tensor by_token;            // i32 [vocab, top_k]: the experts of each token id (hash routing); absent: none
};

/// Expert feed-forwards of equal shapes; each reads its rows of x.
struct Experts {
  std::span<const Linear> gate;  // one an expert; empty: `up` holds gate|up, or there is no gate
  std::span<const Linear> up;    // one an expert
  std::span<const Linear> down;  // one an expert; empty: an expert is one matrix, `up`, without an activation
  ActArgs activation;
  bool weigh_input = false;  // the routing weight multiplies x, not the result (Llama 4)
};

/// Experts of each row.
struct Routing {
  Tensor ids;      // i32 [rows, top_k]
  Tensor weights;  // f32 [rows, top_k]; absent (experts): 1
};

/// Token embedding table: row id of `w`, times alpha. Ids beyond the table read row 0 (Gemma 3n's tables of the layers'
/// inputs are shorter than its vocabulary).
struct Embed {
  LinearShape shape;  // n = vocabulary, k = width
  float alpha = 1;
  Tensor w;  // u8 [bytes], stored layout
};

/// What a dry step adds up. FLOPs count a multiply-add as two.
struct StepCost {
  int64_t flops = 0;
  int64_t weight_bytes = 0;  // weights read once each
  int64_t cache_bytes = 0;   // keys and values read and written
  int64_t arena_bytes = 0;   // peak of temporary memory, workspaces included
};

class Ops {
 public:
  Ops(Precision precision, Arena arena) : precision_(precision), arena_(std::move(arena)) {}
  virtual ~Ops() = default;
  Ops(const Ops&) = delete;
  Ops& operator=(const Ops&) = delete;

  const Precision& precision() const { return precision_; }
  bool dry() const { return arena_.counting(); }
  const StepCost& cost() const { return cost_; }  // of the dry steps run so far

  /// `input` must outlive the step.
  void begin_step(const StepInput& input);
  void end_step();
  /// Ends a step that an exception broke off: the next one may begin.
  void abandon_step();

  /// Uninitialised step memory, valid until the innermost Scope ends, or the step.
  Tensor temp(DType dtype, const Shape& shape);
  /// Frees the temps made within it.
  class Scope {
   public:
    explicit Scope(Ops& ops) : ops_(ops), mark_(ops.arena_.mark()) {}
    ~Scope() { ops_.arena_.release(mark_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Ops& ops_;
    int64_t mark_;
  };

  /// out[r] = alpha * table[ids[r]].                                        out [rows, width] residual dtype
  void embed(const Embed& table, const Tensor& out);
  /// Parts fill adjacent column ranges of `out` (q|k|v, gate|up).           x [m, k] act, out [m, sum of n] any float
  void linear(std::span<const Linear> parts, const Tensor& x, const Tensor& out, const Epilogue& epilogue = {});
  /// out = norm(x), row by row; out may be x.                               x, out [m, dim]
  void norm(const Tensor& x, const Norm& norm, const Tensor& out);
  /// residual += x.                                                         residual, x [m, dim]
  void add(const Tensor& residual, const Tensor& x);
  /// residual += x, out = norm(residual).
  void add_norm(const Tensor& residual, const Tensor& x, const Norm& norm, const Tensor& out);
  /// out = act(gate) * up.                                                  gate_up [m, 2 * ff], out [m, ff]
  void gated_activation(const Tensor& gate_up, Activation activation, const Tensor& out);
  /// The same with parameters, or out = act(x) where x is as wide as out.   x [m, ff or 2 * ff], out [m, ff]
  void activate(const ActArgs& args, const Tensor& x, const Tensor& out);
  /// x *= act(gate); each value of gate serves a stretch of equal columns.  x [m, n], gate [m, n / stretch]
  void gate(const Tensor& x, const Tensor& gate, Activation activation);
  /// out = alpha * vector * x; x may be out.                                x, out [m, n]; vector f32 [n], [1] or
  /// absent
  void scale(const Tensor& x, const Tensor& vector, float alpha, const Tensor& out);
  /// x[r] += vector.                                                        x [m, n], vector f32 [n]
  void add_vector(const Tensor& x, const Tensor& vector);
  /// x = min(max(x, -limit), limit).                                        x [m, n]
  void clamp(const Tensor& x, float limit);
  /// x[r] *= rms(like[r]) / sqrt(max(mean square of x[r], floor)).          x, like [m, n]
  void match_rms(const Tensor& x, const Tensor& like, float floor);
  /// Residual streams, side by side, mixed row by row: out[:, j] = sum over i of weights[:, j * from + i] * x[:, i].
  ///                                      x [m, from * width], weights [m, to * from], out [m, to * width], not x
  void mix_streams(const Tensor& x, int64_t from, const Tensor& weights, const Tensor& out);
  /// What a sublayer reads of the streams, and how they will take what it gives (absent: nothing is taken).
  ///                                      x [rows, streams * hidden], logits [rows, streams * (1, 2 or 2 + streams)],
  ///                                      read [rows, hidden], weights f32 [rows, streams or streams * (1 + streams)]
  void hyper_read(const HyperArgs& args, const Tensor& x, const Tensor& logits, const Tensor& read,
                  const Tensor& weights);
  /// Each stream of x becomes its mix of the streams, plus its weight times given.         given [rows, hidden]
  void hyper_write(const HyperArgs& args, const Tensor& x, const Tensor& given, const Tensor& weights);
  /// residual[r] += table[position of r + offset].                          table f32 [positions, n], residual [rows,
  /// n]
  void add_positions(const Tensor& table, int64_t offset, const Tensor& residual);
  /// Norms and rotates queries and keys, stores keys and values of every row at its position.
  ///                                             qkv [rows, (heads + 2 * kv_heads) * head_dim], q [rows, heads,
  ///                                             head_dim]
  void qk_norm_rope_store(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q);
  /// Causal attention of every row over its sequence's cache.              q [rows, heads, head_dim], out the same
  void attention(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out);
  /// Stores every row's kv at its position, its last rope_dim values rotated; rotates those of each query and puts them
  /// behind the kv_rank values of q.      queries [rows, heads * (nope_dim + rope_dim)], kv [rows, kv_rank + rope_dim],
  ///                                      q [rows, heads, kv_rank + rope_dim]
  void latent_store(const LatentArgs& args, const Tensor& queries, const Tensor& kv, const KvView& view,
                    const Tensor& q);
  /// Keeps every row's values and gates, and stores the entries that this step makes whole.
  ///                                      x [rows, 2 * width], recent.k 1 head of 2 * width, entries.k 1 head of dim
  void compress(const CompressArgs& args, const Tensor& x, const KvView& recent, const KvView& entries);
  /// The top_k positions up to its own (or whole entries) that each row chooses, in ascending order, then -1; of equal
  /// scores the first wins.       q [rows, heads, head_dim], weights [rows, heads], keys.k 1 head, selected i32 [rows,
  /// at least top_k or
  ///             max_kv_len]
  void select(const SelectArgs& args, const Tensor& q, const Tensor& weights, const KvView& keys,
              const Tensor& selected);
  /// Chooses experts by the router's logits.                               logits [rows, experts] act
  void route(const RouteArgs& args, const Tensor& logits, const Routing& routing);
  /// out = the weighted sum of the rows' experts.                          x [rows, k], out [rows, n] act
  void experts(const Experts& experts, const Tensor& x, const Routing& routing, const Tensor& out);
  /// Ops with a state of fixed size a sequence, read and written in place; it begins at zero with the first token.
  /// x = activation of the convolution.                                    x [rows, channels]
  void causal_conv(const ConvArgs& args, const Tensor& x, const KvView& state);
  void decay(const DecayArgs& args, const Tensor& a, const Tensor& decay);  // both [rows, n]
  void recurrence(const RecurrenceArgs& args, const RecurrenceInputs& in, const KvView& state, const Tensor& out);
  void selective_scan(const ScanArgs& args, const ScanInputs& in, const KvView& state, const Tensor& out);
  /// x becomes the state after each token.                                 x and gates [rows, width]
  void rg_lru(const LruArgs& args, const Tensor& x, const Tensor& input_gate, const Tensor& decay_gate,
              const KvView& state);
  /// out = x of the token before.                                          x, out [rows, width]
  void token_shift(const Tensor& x, const KvView& state, int64_t offset, const Tensor& out);
  /// out = share * x + (1 - share) * other.                                share f32 [n]
  void mix(const Tensor& x, const Tensor& other, const Tensor& share, const Tensor& out);
  void wkv4(const WkvArgs& args, const Tensor& k, const Tensor& v, const KvView& state, const Tensor& out);
  /// out[i] = x[out_rows[i]].                                               x [rows, dim], out [out_count, dim]
  void gather_out_rows(const Tensor& x, const Tensor& out);
  /// Draws one token a row (ops/sample.h).                                  logits f32 [n, vocab]; changed in place
  void sample(const SampleArgs& args, const Tensor& logits);

 protected:
  const StepInput& input() const { return *input_; }

  // Hooks: called in dry steps too, where they only make the temps they need and return.
  virtual void do_begin_step() {}
  virtual void do_end_step() {}  // a backend that records a step runs it here, if not before
  virtual void do_embed(const Embed& table, const Tensor& out) = 0;
  virtual void do_linear(std::span<const LinearCall> calls, void* workspace) = 0;  // calls of one kernel, sharing x
  virtual void do_norm(const Tensor& x, const Norm& norm, const Tensor& out) = 0;
  virtual void do_add(const Tensor& residual, const Tensor& x) = 0;
  virtual void do_add_norm(const Tensor& residual, const Tensor& x, const Norm& norm, const Tensor& out);
  virtual void do_gated_activation(const Tensor& gate_up, Activation activation, const Tensor& out) = 0;
  virtual void do_qk_norm_rope_store(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) = 0;
  virtual void do_attention(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) = 0;
  virtual void do_gather_out_rows(const Tensor& x, const Tensor& out) = 0;

  // Hooks of rarer ops. The default refuses, in dry steps too, so that a backend without one refuses the model before
  // its weights are loaded. HostOps (ops/host_ops.h) has them all for backends whose tensors lie in host memory.
  virtual void do_norm_variant(const Tensor& x, const Norm& norm, const Tensor& out);
  virtual void do_activate(const ActArgs& args, const Tensor& x, const Tensor& out);
  virtual void do_gate(const Tensor& x, const Tensor& gate, Activation activation);
  virtual void do_scale(const Tensor& x, const Tensor& vector, float alpha, const Tensor& out);
  virtual void do_add_vector(const Tensor& x, const Tensor& vector);
  virtual void do_clamp(const Tensor& x, float limit);
  virtual void do_match_rms(const Tensor& x, const Tensor& like, float floor);
  virtual void do_mix_streams(const Tensor& x, int64_t from, const Tensor& weights, const Tensor& out);
  virtual void do_add_positions(const Tensor& table, int64_t offset, const Tensor& residual);
  virtual void do_qkv_variant(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q);
  virtual void do_attention_variant(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out);
  virtual void do_latent_store(const LatentArgs& args, const Tensor& queries, const Tensor& kv, const KvView& view,
                               const Tensor& q);
  virtual void do_compress(const CompressArgs& args, const Tensor& x, const KvView& recent, const KvView& entries);
  virtual void do_hyper_read(const HyperArgs& args, const Tensor& x, const Tensor& logits, const Tensor& read,
                             const Tensor& weights);
  virtual void do_hyper_write(const HyperArgs& args, const Tensor& x, const Tensor& given, const Tensor& weights);
  virtual void do_select(const SelectArgs& args, const Tensor& q, const Tensor& weights, const KvView& keys,
                         const Tensor& selected);
  virtual void do_route(const RouteArgs& args, const Tensor& logits, const Routing& routing);
  virtual void do_experts(const Experts& experts, const Tensor& x, const Routing& routing, const Tensor& out);
  virtual void do_causal_conv(const ConvArgs& args, const Tensor& x, const KvView& state);
  virtual void do_decay(const DecayArgs& args, const Tensor& a, const Tensor& decay);
  virtual void do_recurrence(const RecurrenceArgs& args, const RecurrenceInputs& in, const KvView& state,
                             const Tensor& out);
  virtual void do_selective_scan(const ScanArgs& args, const ScanInputs& in, const KvView& state, const Tensor& out);
  virtual void do_rg_lru(const LruArgs& args, const Tensor& x, const Tensor& input_gate, const Tensor& decay_gate,
                         const KvView& state);
  virtual void do_token_shift(const Tensor& x, const KvView& state, int64_t offset, const Tensor& out);
  virtual void do_mix(const Tensor& x, const Tensor& other, const Tensor& share, const Tensor& out);
  virtual void do_wkv4(const WkvArgs& args, const Tensor& k, const Tensor& v, const KvView& state, const Tensor& out);
  virtual void do_sample(const SampleArgs& args, const Tensor& logits);  // body: host arithmetic on host memory

 private:
  Precision precision_;
  Arena arena_;
  const StepInput* input_ = nullptr;
  StepCost cost_;
};

}  // namespace baize
