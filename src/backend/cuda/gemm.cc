#include <array>
#include <bit>
#include <limits>

#include "backend/cuda/check.h"
#include "backend/cuda/exec.h"
#include "backend/cuda/kernels/kernels.h"
#include "base/error.h"

namespace baize::cuda {

namespace {

constexpr int kCandidates = 8, kTimedRuns = 3;
constexpr size_t kMaxPlans = 4096;  // a plan is small and quickly made again

void check_lt(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(status == CUBLAS_STATUS_ALLOC_FAILED ? ErrorKind::kResource : ErrorKind::kIo, "cuBLASLt failed to {}: status {}",
       what, static_cast<int>(status));
}

// The library's choices suppose memory that can be read and written 16 bytes at a time; a head's columns may lie else.
bool aligned(const Tensor& x, const Tensor& out) {
  const auto at = [](const Tensor& t) { return reinterpret_cast<uintptr_t>(t.data) % 16; };
  return x.dtype == DType::kBF16 && at(x) == 0 && x.strides[0] % 8 == 0 && at(out) == 0;
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

// Algorithms are measured once for all numbers of rows of a bucket: few buckets, so that little is measured while
// serving.
int64_t Gemm::bucket(int64_t m) {
  return m <= 64 ? (m + 15) / 16 * 16 : static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(m)));
}

// The library sees columns: the transposed result [n, m] = (w [k, n])^T . x [k, m].
std::unique_ptr<Gemm::Plan> Gemm::describe(const Key& key) {
  const auto [m, n, k, x_stride, out_stride, out_type, kind] = key;
  auto made = std::make_unique<Plan>();
  check_lt(cublasLtMatmulDescCreate(&made->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describe a product");
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check_lt(cublasLtMatmulDescSetAttribute(made->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
           "describe a product");
  const auto rows = [](int64_t v) { return static_cast<uint64_t>(v); };
  const cudaDataType in = kind == Kind::kBf16 ? CUDA_R_16BF : CUDA_R_8F_E4M3;
  if (kind != Kind::kBf16) {
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
      check_lt(cublasLtMatmulDescSetAttribute(made->product, attribute, &value, sizeof value), "describe scales");
    };
    const cublasLtMatmulMatrixScale_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode);
    set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{1});
  }
  check_lt(cublasLtMatrixLayoutCreate(&made->w, in, rows(k), rows(n), k), "describe weights");
  check_lt(cublasLtMatrixLayoutCreate(&made->x, in, rows(k), rows(m), x_stride), "describe rows");
  check_lt(cublasLtMatrixLayoutCreate(&made->out, static_cast<cudaDataType>(out_type), rows(n), rows(m), out_stride),
           "describe results");
  return made;
}

std::vector<cublasLtMatmulAlgo_t> Gemm::candidates(const Plan& plan, const Key& key) {
  cublasLtMatmulPreference_t preference = nullptr;
  check_lt(cublasLtMatmulPreferenceCreate(&preference), "choose an algorithm");
  const size_t workspace = kWorkspaceBytes;
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                       sizeof workspace);
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_, plan.product, plan.w, plan.x, plan.out, plan.out, preference, kCandidates, results.data(), &found);
  cublasLtMatmulPreferenceDestroy(preference);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0) {
    fail(ErrorKind::kUnsupported, "cuBLASLt has no product of {} rows with [{}, {}] weights", std::get<0>(key),
         std::get<1>(key), std::get<2>(key));
  }
  std::vector<cublasLtMatmulAlgo_t> algos;
  for (int i = 0; i < found; ++i) algos.push_back(results[static_cast<size_t>(i)].algo);
  return algos;
}

bool Gemm::fits(const Plan& plan, const cublasLtMatmulAlgo_t& algo) {
  cublasLtMatmulHeuristicResult_t result{};
  return cublasLtMatmulAlgoCheck(handle_, plan.product, plan.w, plan.x, plan.out, plan.out, &algo, &result) ==
             CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= kWorkspaceBytes;
}

// The library's own first choice can take more than twice the time of the best (4,096 rows by [6144, 4096] weights).
cublasLtMatmulAlgo_t Gemm::fastest(const std::vector<cublasLtMatmulAlgo_t>& algos, Plan& plan, const Call& call) {
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin), "make an event");
  check(cudaEventCreate(&end), "make an event");
  float best_ms = std::numeric_limits<float>::max();
  cublasLtMatmulAlgo_t best = algos[0];
  for (const cublasLtMatmulAlgo_t& algo : algos) {
    plan.algo = algo;
    for (int i = 0; i < kTimedRuns; ++i) {
      cudaMemsetAsync(workspace_, 0, kWorkspaceBytes, call.stream);  // takes the weights' place in the cache
      cudaEventRecord(begin, call.stream);
      multiply(plan, call);
      cudaEventRecord(end, call.stream);
      check(cudaEventSynchronize(end), "measure a product");
      float ms = 0;
      check(cudaEventElapsedTime(&ms, begin, end), "measure a product");
      if (ms < best_ms) {
        best_ms = ms;
        best = algo;
      }
    }
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return best;
}

Gemm::Plan& Gemm::plan(const Key& key, const Call& call) {
  if (const auto at = plans_.find(key); at != plans_.end()) return *at->second;
  if (plans_.size() >= kMaxPlans) plans_.clear();
  std::unique_ptr<Plan> made = describe(key);
  point_at_scales(*made, call);
  Key about = key;
  std::get<0>(about) = bucket(std::get<0>(key));
  const auto known = chosen_.find(about);
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(call.stream, &capturing), "choose an algorithm");
  if (known != chosen_.end() && fits(*made, known->second)) {
    made->algo = known->second;
  } else if (const auto algos = candidates(*made, key); capturing == cudaStreamCaptureStatusNone) {
    made->algo = chosen_[about] = fastest(algos, *made, call);
  } else {
    made->algo = algos[0];
  }
  return *(plans_[key] = std::move(made));
}

void Gemm::point_at_scales(const Plan& p, const Call& c) {
  if (c.w_scales == nullptr) return;
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const float* scales) {
    check_lt(cublasLtMatmulDescSetAttribute(p.product, attribute, static_cast<const void*>(&scales), sizeof scales),
             "describe scales");
  };
  set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, c.w_scales);
  set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, c.x_scales);
}

void Gemm::multiply(const Plan& p, const Call& c) {
  const float beta = 0;
  point_at_scales(p, c);
  check_lt(cublasLtMatmul(handle_, p.product, &c.alpha, c.w, p.w, c.x, p.x, &beta, c.out, p.out, c.out, p.out, &p.algo,
                          workspace_, kWorkspaceBytes, c.stream),
           "multiply");
}

// NOLINTNEXTLINE(readability-function-size): what a product is made of
void Gemm::run(cudaStream_t stream, const void* w, int64_t n, int64_t k, const Tensor& x, const Tensor& out,
               float alpha) {
  if (!aligned(x, out)) {
    Linear plain;
    plain.shape = {QuantFormat::plain(DType::kBF16), n, k};
    plain.alpha = alpha;
    plain.w = Tensor(const_cast<void*>(w), DType::kBF16, {n, k});
    Tensor to = out;
    to.shape = {out.shape[0], n};
    return linear_exact(stream, {&plain, x, to, {}});
  }
  const int type = out.dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
  const Call call{stream, w, x.data, out.data, alpha, nullptr, nullptr};
  multiply(plan({x.shape[0], n, k, x.strides[0], out.strides[0], type, Kind::kBf16}, call), call);
}

void Gemm::run(cudaStream_t stream, const Fp8Product& p, const Tensor& out, float alpha) {
  const int type = out.dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
  const Call call{stream, p.w, p.x, out.data, alpha, p.w_scales, p.x_scales};
  multiply(plan({p.m, p.n, p.k, p.k, out.strides[0], type, Kind::kFp8}, call), call);
}

}  // namespace baize::cuda
