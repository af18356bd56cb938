// CudaOps: records the ops of a step and runs them when the step ends or a token is drawn. A step of one row of a usual
// shape runs as one resident kernel (kernels/walk.h); other small steps that come again are captured as CUDA graphs and
// replayed: all that changes between them is read from StepInput's arrays. Used by one thread at a time.
#pragma once

#include <cuda_runtime.h>

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
  void do_sample(const SampleArgs& args, const Tensor& logits) override;

 private:
  void record(const Op& op) {
    if (!dry()) ops_.push_back(op);
  }
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
  OpTimes times_;
};

}  // namespace baize::cuda
