// CudaExec: what kernels run on: one device, one stream, the matrix library's handle and its workspace. Owned by a
// CudaOps; used by the thread that runs its steps.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "backend/cuda/kernels/kernels.h"
#include "ops/linear.h"

namespace baize::cuda {

class Gemm;

struct CudaExec : Exec {
  cudaStream_t stream = nullptr;
  int sms = 0;  // multiprocessors
  Gemm* gemm = nullptr;
  const void* quantized = nullptr;  // workspace of the next linear in which the op before it left its rows quantised
};

/// Weights and rows in e4m3, with f32 scales of each row of both.
struct Fp8Product {
  const void* w;
  const float* w_scales;
  const void* x;  // [m, k]
  const float* x_scales;
  int64_t m, n, k;
};

/// out = alpha * x . w^T through cuBLASLt: bf16 weights [n, k] and rows, or e4m3 of both; bf16 or f32 results, f32
/// sums. The fastest of the library's proposals is found by measuring, once for a shape and a range of row counts.
class Gemm {
 public:
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA recommends for Hopper

  Gemm();
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  void run(cudaStream_t stream, const void* w, int64_t n, int64_t k, const Tensor& x, const Tensor& out, float alpha);
  /// m, n and k are multiples of 16, `out` begins at one of 16 bytes.
  void run(cudaStream_t stream, const Fp8Product& product, const Tensor& out, float alpha);

 private:
  struct Plan;
  struct Call {
    cudaStream_t stream;
    const void* w;
    const void* x;
    void* out;
    float alpha;
    const float *w_scales, *x_scales;  // of e4m3
  };
  enum class Kind : uint8_t { kBf16, kFp8 };
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int, Kind>;  // m, n, k, strides, result type

  static int64_t bucket(int64_t m);
  static std::unique_ptr<Plan> describe(const Key& key);
  std::vector<cublasLtMatmulAlgo_t> candidates(const Plan& plan, const Key& key);
  bool fits(const Plan& plan, const cublasLtMatmulAlgo_t& algo);
  cublasLtMatmulAlgo_t fastest(const std::vector<cublasLtMatmulAlgo_t>& algos, Plan& plan, const Call& call);
  Plan& plan(const Key& key, const Call& call);
  static void point_at_scales(const Plan& plan, const Call& call);
  void multiply(const Plan& plan, const Call& call);

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
  std::map<Key, cublasLtMatmulAlgo_t> chosen_;  // m rounded up
};

}  // namespace baize::cuda
