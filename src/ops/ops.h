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

/// RMS norm (Zhang & Sennrich 2019): x / sqrt(mean(x^2) + eps) * weight, over the last dimension.
struct Norm {
  Tensor weight;  // f32 [dim]; absent: the norm itself is absent
  float eps = 0;
  bool present() const { return weight.present(); }
};

/// Rotary position embedding (Su et al. 2021). Position p turns pair i by the angle p * inv_freq[i]; all load-time
/// scalings (linear, YaRN, llama3, longrope) are folded into inv_freq and scale.
struct Rope {
  Tensor inv_freq;           // f32 [rot_dim / 2]; absent: no rotation
  float scale = 1;           // multiplies cosines and sines (attention factor of YaRN and longrope)
  bool interleaved = false;  // pairs are (2i, 2i + 1) instead of (i, i + rot_dim / 2)
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

struct QkvArgs {
  AttnShape shape;
  Norm q_norm, k_norm;  // over head_dim, before the rotation; absent: none
  Rope rope;
};

struct AttnArgs {
  AttnShape shape;
  float scale = 1;     // of q . k
  float softcap = 0;   // > 0: softcap * tanh(score / softcap), before the mask
  int64_t window = 0;  // > 0: position p sees only (p - window, p]
};

enum class Activation : uint8_t { kSilu, kGelu, kGeluTanh, kRelu };

/// Token embedding table: row id of `w`, times alpha.
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
  /// Norms and rotates queries and keys, stores keys and values of every row at its position.
  ///                                             qkv [rows, (heads + 2 * kv_heads) * head_dim], q [rows, heads,
  ///                                             head_dim]
  void qk_norm_rope_store(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q);
  /// Causal attention of every row over its sequence's cache.              q [rows, heads, head_dim], out the same
  void attention(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out);
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
  virtual void do_sample(const SampleArgs& args, const Tensor& logits);  // body: host arithmetic on host memory

 private:
  Precision precision_;
  Arena arena_;
  const StepInput* input_ = nullptr;
  StepCost cost_;
};

}  // namespace baize
