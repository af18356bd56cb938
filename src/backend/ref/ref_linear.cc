// The matrix product of the reference: each weight row is dequantised once and multiplied with every row of x.
#include <array>
#include <cmath>

#include "backend/ref/ref_ops.h"
#include "base/check.h"
#include "ops/dequant.h"

namespace baize::ref {

namespace {

// Sixteen partial sums: independent, so that the processor overlaps them, and more exact than one long sum.
float dot(const float* a, const float* b, int64_t n) {
  constexpr int kSums = 16;
  std::array<float, kSums> sums{};
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (int s = 0; s < kSums; ++s) sums[static_cast<size_t>(s)] += a[i + s] * b[i + s];
  }
  double total = 0;
  for (const float sum : sums) total += sum;
  for (; i < n; ++i) total += a[i] * b[i];
  return static_cast<float>(total);
}

void run_linear(Exec&, std::span<const LinearCall> calls, void* workspace) {
  auto* weights = static_cast<float*>(workspace);  // one dequantised row
  for (const LinearCall& call : calls) {
    const Linear& linear = *call.linear;
    const auto& [format, n, k] = linear.shape;
    const auto* stored = linear.w.as<const std::byte>();
    const float softcap = call.epilogue.softcap;
    for (int64_t j = 0; j < n; ++j) {
      dequantize_row(format, stored + j * format.row_bytes(k), k, weights);
      const float bias = linear.bias.present() ? linear.bias.as<const float>()[j] : 0.0f;
      for (int64_t r = 0; r < call.x.shape[0]; ++r) {
        const float* x = call.x.as<const float>() + r * call.x.strides[0];
        float y = linear.alpha * dot(x, weights, k) + bias;
        if (softcap > 0) y = softcap * std::tanh(y / softcap);
        call.out.as<float>()[r * call.out.strides[0] + j] = y;
      }
    }
  }
}

constexpr LinearKernel kRefKernel = {
    .name = "ref",
    .pack = nullptr,
    .priority = 0,
    .supports = [](const LinearQuery&) { return true; },
    .workspace = [](const LinearShape& shape, int64_t) { return shape.k * int64_t{sizeof(float)}; },
    .run = run_linear,
};
constexpr const LinearKernel* kKernels[] = {&kRefKernel};

}  // namespace

std::span<const LinearKernel* const> linear_kernels() { return kKernels; }

void RefOps::do_linear(std::span<const LinearCall> calls, void* workspace) {
  if (dry()) return;
  BAIZE_CHECK(calls[0].x.dtype == DType::kF32 && calls[0].out.dtype == DType::kF32);
  Exec exec;
  calls[0].linear->kernel(calls[0].x.shape[0]).run(exec, calls, workspace);
}

}  // namespace baize::ref
