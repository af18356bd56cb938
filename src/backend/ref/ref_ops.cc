// The row-wise ops of the reference: embedding, norms, sums, activations, gathering.
#include "backend/ref/ref_ops.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "backend/ref/ref_math.h"
#include "base/check.h"
#include "ops/dequant.h"

namespace baize::ref {

namespace {

float apply(Activation activation, float x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1.0f + std::exp(-x));
    case Activation::kGelu:
      return 0.5f * x * (1.0f + std::erf(x * std::numbers::sqrt2_v<float> / 2));
    case Activation::kGeluTanh: {
      const float root_2_over_pi = std::numbers::sqrt2_v<float> * std::numbers::inv_sqrtpi_v<float>;
      return 0.5f * x * (1.0f + std::tanh(root_2_over_pi * (x + 0.044715f * x * x * x)));
    }
    case Activation::kRelu:
      return x > 0 ? x : 0.0f;
    default:
      break;  // HostOps has the others
  }
  BAIZE_UNREACHABLE("Activation without a formula");
}

}  // namespace

void rms_norm(const float* x, const Norm& norm, int64_t dim, float* out) {
  double squares = 0;
  for (int64_t i = 0; i < dim; ++i) squares += static_cast<double>(x[i]) * x[i];
  const auto scale = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(dim) + norm.eps));
  const float* weight = norm.weight.as<const float>();
  for (int64_t i = 0; i < dim; ++i) out[i] = x[i] * scale * weight[i];
}

void RefOps::do_embed(const Embed& table, const Tensor& out) {
  if (dry()) return;
  const int64_t row_bytes = table.shape.format.row_bytes(table.shape.k);
  for (int64_t r = 0; r < input().rows; ++r) {
    const int64_t token = input().ids.as<const int32_t>()[r], id = token < table.shape.n ? token : 0;
    BAIZE_CHECK(token >= 0);
    float* y = row_of(out, r);
    dequantize_row(table.shape.format, table.w.as<const std::byte>() + id * row_bytes, table.shape.k, y);
    for (int64_t i = 0; i < table.shape.k; ++i) y[i] *= table.alpha;
  }
}

void RefOps::do_norm(const Tensor& x, const Norm& norm, const Tensor& out) {
  if (dry()) return;
  for (int64_t r = 0; r < x.shape[0]; ++r) rms_norm(row_of(x, r), norm, x.shape[1], row_of(out, r));
}

void RefOps::do_add(const Tensor& residual, const Tensor& x) {
  if (dry()) return;
  for (int64_t r = 0; r < x.shape[0]; ++r) {
    float* sum = row_of(residual, r);
    const float* y = row_of(x, r);
    for (int64_t i = 0; i < x.shape[1]; ++i) sum[i] += y[i];
  }
}

void RefOps::do_gated_activation(const Tensor& gate_up, Activation activation, const Tensor& out) {
  if (dry()) return;
  const int64_t ff = out.shape[1];
  for (int64_t r = 0; r < out.shape[0]; ++r) {
    const float* gate = row_of(gate_up, r);
    const float* up = gate + ff;
    float* y = row_of(out, r);
    for (int64_t i = 0; i < ff; ++i) y[i] = apply(activation, gate[i]) * up[i];
  }
}

void RefOps::do_gather_out_rows(const Tensor& x, const Tensor& out) {
  if (dry()) return;
  for (int64_t i = 0; i < input().out_count; ++i) {
    const float* from = row_of(x, input().out_rows.as<const int32_t>()[i]);
    std::copy_n(from, x.shape[1], row_of(out, i));
  }
}

}  // namespace baize::ref
