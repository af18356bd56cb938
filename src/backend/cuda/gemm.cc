#include "backend/cuda/check.h"
#include "backend/cuda/exec.h"
#include "base/error.h"

namespace baize::cuda {

namespace {

void check_lt(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(status == CUBLAS_STATUS_ALLOC_FAILED ? ErrorKind::kResource : ErrorKind::kIo, "cuBLASLt failed to {}: status {}",
       what, static_cast<int>(status));
}

}  // namespace

struct Gemm::Plan {
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algo{};

  Plan() = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (out != nullptr) cublasLtMatrixLayoutDestroy(out);
    if (x != nullptr) cublasLtMatrixLayoutDestroy(x);
    if (w != nullptr) cublasLtMatrixLayoutDestroy(w);
    if (product != nullptr) cublasLtMatmulDescDestroy(product);
  }
};

Gemm::Gemm() {
  check_lt(cublasLtCreate(&handle_), "start");
  check(cudaMalloc(&workspace_, kWorkspaceBytes), "hold the workspace of cuBLASLt");
}

Gemm::~Gemm() {
  plans_.clear();
  cudaFree(workspace_);
  cublasLtDestroy(handle_);
}

// The library sees columns: the transposed result [n, m] = (w [k, n])^T . x [k, m].
Gemm::Plan& Gemm::plan(const Key& key) {
  std::unique_ptr<Plan>& slot = plans_[key];
  if (slot) return *slot;
  const auto [m, n, k, x_stride, out_stride, out_type] = key;
  auto made = std::make_unique<Plan>();
  check_lt(cublasLtMatmulDescCreate(&made->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describe a product");
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check_lt(cublasLtMatmulDescSetAttribute(made->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
           "describe a product");
  const auto rows = [](int64_t v) { return static_cast<uint64_t>(v); };
  check_lt(cublasLtMatrixLayoutCreate(&made->w, CUDA_R_16BF, rows(k), rows(n), k), "describe weights");
  check_lt(cublasLtMatrixLayoutCreate(&made->x, CUDA_R_16BF, rows(k), rows(m), x_stride), "describe rows");
  check_lt(cublasLtMatrixLayoutCreate(&made->out, static_cast<cudaDataType>(out_type), rows(n), rows(m), out_stride),
           "describe results");
  cublasLtMatmulPreference_t preference = nullptr;
  check_lt(cublasLtMatmulPreferenceCreate(&preference), "choose an algorithm");
  const size_t workspace = kWorkspaceBytes;
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                       sizeof workspace);
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle_, made->product, made->w, made->x, made->out,
                                                               made->out, preference, 1, &result, &found);
  cublasLtMatmulPreferenceDestroy(preference);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0) {
    fail(ErrorKind::kUnsupported, "cuBLASLt has no product of {} rows with [{}, {}] weights", m, n, k);
  }
  made->algo = result.algo;
  slot = std::move(made);
  return *slot;
}

void Gemm::run(cudaStream_t stream, const void* w, int64_t n, int64_t k, const Tensor& x, const Tensor& out,
               float alpha) {
  const int type = out.dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
  Plan& p = plan({x.shape[0], n, k, x.strides[0], out.strides[0], type});
  const float beta = 0;
  check_lt(cublasLtMatmul(handle_, p.product, &alpha, w, p.w, x.data, p.x, &beta, out.data, p.out, out.data, p.out,
                          &p.algo, workspace_, kWorkspaceBytes, stream),
           "multiply");
}

}  // namespace baize::cuda
