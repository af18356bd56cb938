// CudaExec: what kernels run on: one device, one stream, the matrix library's handle and its workspace. Owned by a
// CudaOps; used by the thread that runs its steps.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <map>
#include <memory>
#include <tuple>

#include "ops/linear.h"

namespace baize::cuda {

class Gemm;

struct CudaExec : Exec {
  cudaStream_t stream = nullptr;
  int sms = 0;  // multiprocessors
  Gemm* gemm = nullptr;
};

/// out = alpha * x . w^T through cuBLASLt: bf16 weights [n, k] and rows, bf16 or f32 results, f32 sums. Algorithms are
/// chosen once a shape.
class Gemm {
 public:
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA recommends for Hopper

  Gemm();
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  void run(cudaStream_t stream, const void* w, int64_t n, int64_t k, const Tensor& x, const Tensor& out, float alpha);

 private:
  struct Plan;
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int>;  // m, n, k, strides, result type
  Plan& plan(const Key& key);

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace baize::cuda
