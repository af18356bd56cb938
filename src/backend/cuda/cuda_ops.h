// CudaOps: records the ops of a step and runs them when the step ends or a token is drawn. A step of one row of a usual
// shape runs as one resident kernel (kernels/walk.h); other small steps that come again are captured as CUDA graphs and
// replayed: all that changes between them is read from StepInput's arrays. Used by one thread at a time.
#pragma once

#include <cuda_runtime.h>

#include <compare>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "backend/cuda/exec.h"
#include "backend/cuda/kernels/walk.h"
#include "backend/cuda/op_list.h"
#include "backend/cuda/op_times.h"
#include "ops/ops.h"

namespace baize::cuda {

class CudaOps : public Ops {
 public:
  CudaOps(Precision precision, Arena arena, cudaStream_t stream, int sms);
  ~CudaOps() override;

 protected:
  void do_begin_step() override;
  void do_end_step() override;
  void do_embed(const Embed& table, const Tensor& out) override;
  void do_linear(std::span<const LinearCall> calls, void* workspace) override;
  void do_norm(const Tensor& x, const Norm& norm, const Tensor& out) override;
  void do_add(const Tensor& residual, const Tensor& x) override;
  void do_add_norm(const Tensor& residual, const Tensor& x, const Norm& norm, const Tensor& out) override;
  void do_gated_activation(const Tensor& gate_up, Activation activation, const Tensor& out) override;
  void do_qk_norm_rope_store(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) override;
  void do_attention(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) override;
  void do_gather_out_rows(const Tensor& x, const Tensor& out) override;
  // cuda_expert_ops.cc
  void do_route(const RouteArgs& args, const Tensor& logits, const Routing& routing) override;
  void do_experts(const Experts& experts, const Tensor& x, const Routing& routing, const Tensor& out) override;
  // cuda_other_ops.cc
  void do_norm_variant(const Tensor& x, const Norm& norm, const Tensor& out) override;
  void do_activate(const ActArgs& args, const Tensor& x, const Tensor& out) override;
  void do_gate(const Tensor& x, const Tensor& gate, Activation activation) override;
  void do_scale(const Tensor& x, const Tensor& vector, float alpha, const Tensor& out) override;
  void do_add_vector(const Tensor& x, const Tensor& vector) override;
  void do_clamp(const Tensor& x, float limit) override;
  void do_add_positions(const Tensor& table, int64_t offset, const Tensor& residual) override;
  void do_qkv_variant(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) override;
  void do_attention_variant(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) override;
  void do_latent_store(const LatentArgs& args, const Tensor& queries, const Tensor& kv, const KvView& view,
                       const Tensor& q) override;
  void do_select(const SelectArgs& args, const Tensor& q, const Tensor& weights, const KvView& keys,
                 const Tensor& selected) override;
  void do_causal_conv(const ConvArgs& args, const Tensor& x, const KvView& state) override;
  void do_decay(const DecayArgs& args, const Tensor& a, const Tensor& decay) override;
  void do_recurrence(const RecurrenceArgs& args, const RecurrenceInputs& in, const KvView& state,
                     const Tensor& out) override;
  void do_selective_scan(const ScanArgs& args, const ScanInputs& in, const KvView& state, const Tensor& out) override;
  void do_rg_lru(const LruArgs& args, const Tensor& x, const Tensor& input_gate, const Tensor& decay_gate,
                 const KvView& state) override;
  void do_token_shift(const Tensor& x, const KvView& state, int64_t offset, const Tensor& out) override;
  void do_mix(const Tensor& x, const Tensor& other, const Tensor& share, const Tensor& out) override;
  void do_wkv4(const WkvArgs& args, const Tensor& k, const Tensor& v, const KvView& state, const Tensor& out) override;
  void do_sample(const SampleArgs& args, const Tensor& logits) override;

 private:
  void record(const Op& op) {
    if (!dry()) ops_.push_back(op);
  }
  void record_other(const char* name, std::function<void(cudaStream_t, const StepInput&)> run);
  // What the kernels need of a layer's experts is kept on the device, and known by where the matrices lie.
  struct ExpertKey {
    const void *linears, *up, *down;
    auto operator<=>(const ExpertKey&) const = default;
  };
  const ExpertParts& expert_parts(const Experts& experts, bool tiles);
  bool join_router(RouteOp& op);
  bool join_experts(const Tensor& x, const AddedNorm& then);
  template <typename T>
  const T* keep_on_device(const std::vector<T>& values);
  // A small step that came before: how to run it again.
  struct Known {
    int uses = 0;
    bool walks = false;
    WalkArgs walk{};
    std::vector<void*> memory;        // of the walk, on the device
    cudaGraphExec_t graph = nullptr;  // from the second use on
  };

  void flush();  // runs what was recorded
  void run_all();
  bool run_quantizing(size_t index);
  void run(const Op& op);
  Known& know(uint64_t key);
  void prepare_walk(Known& known);
  void capture(Known& known);
  void forget_all();
  void write_trace();
  void sample_rows(const SampleArgs& args, const Tensor& logits);

  CudaExec exec_;
  std::unique_ptr<Gemm> gemm_;
  int* counters_ = nullptr;  // zeroed between kernels
  // Of a draw, on the device and in pinned memory: the highest logits, how to draw, and the tokens drawn.
  uint64_t *keys_ = nullptr, *host_keys_ = nullptr;
  SampleDraw *draws_ = nullptr, *host_draws_ = nullptr;
  int32_t *drawn_ = nullptr, *host_drawn_ = nullptr;
  StepInput step_;  // of the ops recorded
  std::vector<Op> ops_;
  unsigned* barrier_ = nullptr;                // of walks
  bool walk_ = true;                           // false where BAIZE_CUDA_WALK=0, for measuring
  int traced_ = 0;                             // steps of a walk
  long long* trace_ = nullptr;                 // clocks of the last walk, written to $BAIZE_CUDA_TRACE at the end
  static constexpr int kTraceSteps = 65536;    // of all blocks
  std::unordered_map<uint64_t, Known> known_;  // by hash
  std::map<ExpertKey, ExpertParts> expert_parts_;
  std::vector<void*> expert_memory_;
  OpTimes times_;
};

}  // namespace baize::cuda
