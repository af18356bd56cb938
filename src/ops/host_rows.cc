// The row-wise ops of HostOps: norms, activations, gates, scaling, positions.
#include <numbers>

#include "ops/host_math.h"
#include "ops/host_ops.h"

namespace baize {

namespace host {

float activate(const ActArgs& args, float x) {
  switch (args.kind) {
    case Activation::kSilu:
      return x * sigmoid(x);
    case Activation::kGelu:
      return 0.5f * x * (1.0f + std::erf(x * std::numbers::sqrt2_v<float> / 2));
    case Activation::kGeluTanh: {
      const float root_2_over_pi = std::numbers::sqrt2_v<float> * std::numbers::inv_sqrtpi_v<float>;
      return 0.5f * x * (1.0f + std::tanh(root_2_over_pi * (x + 0.044715f * x * x * x)));
    }
    case Activation::kRelu:
      return x > 0 ? x : 0.0f;
    case Activation::kRelu2:
      return x > 0 ? x * x : 0.0f;
    case Activation::kGeluQuick:
      return x * sigmoid(1.702f * x);
    case Activation::kSigmoid:
      return sigmoid(x);
    case Activation::kSoftplus:
      return softplus(x);
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kXielu:
      if (x > 0) return args.alpha_p * x * x + args.beta * x;
      return (std::expm1(std::min(x, args.eps)) - x) * args.alpha_n + args.beta * x;
    case Activation::kIdentity:
      return x;
  }
  BAIZE_UNREACHABLE("Activation without a formula");
}

void norm_row(const float* x, const Norm& norm, int64_t head, int64_t dim, float* out) {
  const auto count = static_cast<double>(dim);
  double mean = 0;
  if (norm.center) {
    for (int64_t i = 0; i < dim; ++i) mean += x[i];
    mean /= count;
  }
  double squares = 0;
  for (int64_t i = 0; i < dim; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const auto scale = static_cast<float>(1.0 / std::sqrt(squares / count + norm.eps));
  const auto shift = static_cast<float>(mean);
  const int64_t at = norm.weight.shape.rank() > 1 ? head * dim : 0;
  const float* weight = norm.weight.as<const float>() + at;
  const float* bias = norm.bias.present() ? norm.bias.as<const float>() + at : nullptr;
  for (int64_t i = 0; i < dim; ++i) out[i] = (x[i] - shift) * scale * weight[i] + (bias != nullptr ? bias[i] : 0.0f);
}

}  // namespace host

using host::row_of;

void HostOps::over(int64_t count, int64_t, const std::function<void(int64_t, int64_t)>& body) {
  if (count > 0) body(0, count);
}

void HostOps::do_norm_variant(const Tensor& x, const Norm& norm, const Tensor& out) {
  if (dry()) return;
  over(x.shape[0], 3 * x.shape[1], [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) host::norm_row(row_of(x, r), norm, 0, x.shape[1], row_of(out, r));
  });
}

namespace {

// Gemma 3n: only what stands out of its row passes.
void sparsify(std::vector<float>& gate, float deviations) {
  const auto count = static_cast<double>(gate.size());
  double mean = 0, squares = 0;
  for (const float g : gate) mean += g;
  mean /= count;
  for (const float g : gate) squares += (g - mean) * (g - mean);
  const auto cutoff = static_cast<float>(mean + std::sqrt(squares / count) * deviations);
  for (float& g : gate) g = std::max(0.0f, g - cutoff);
}

}  // namespace

void HostOps::do_activate(const ActArgs& args, const Tensor& x, const Tensor& out) {
  if (dry()) return;
  const int64_t ff = out.shape[1];
  const bool gated = x.shape[1] != ff;
  over(x.shape[0], 16 * ff, [&](int64_t begin, int64_t end) {
    std::vector<float> gates(static_cast<size_t>(ff));
    for (int64_t r = begin; r < end; ++r) {
      const float* in = row_of(x, r);
      float* y = row_of(out, r);
      std::copy_n(in, ff, gates.data());
      if (args.sparsity > 0) sparsify(gates, args.sparsity);
      for (int64_t i = 0; i < ff; ++i) {
        const float g = gates[static_cast<size_t>(i)];
        const float act = host::activate(args, args.limit > 0 ? std::min(g, args.limit) : g);
        if (!gated) {
          y[i] = act;
          continue;
        }
        const float up = args.limit > 0 ? std::clamp(in[ff + i], -args.limit, args.limit) : in[ff + i];
        y[i] = act * (up + args.up_shift);
      }
    }
  });
}

void HostOps::do_gate(const Tensor& x, const Tensor& gate, Activation activation) {
  if (dry()) return;
  const int64_t n = x.shape[1], stretch = n / gate.shape[1];
  const ActArgs args{.kind = activation};
  over(x.shape[0], 8 * n, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* y = row_of(x, r);
      const float* g = row_of(gate, r);
      for (int64_t i = 0; i < n; i += stretch) {
        const float factor = host::activate(args, g[i / stretch]);
        for (int64_t j = i; j < i + stretch; ++j) y[j] *= factor;
      }
    }
  });
}

void HostOps::do_scale(const Tensor& x, const Tensor& vector, float alpha, const Tensor& out) {
  if (dry()) return;
  const int64_t n = x.shape[1];
  const float* factors = vector.present() ? vector.as<const float>() : nullptr;
  const int64_t step = vector.present() && vector.shape[0] > 1 ? 1 : 0;
  over(x.shape[0], n, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* in = row_of(x, r);
      float* y = row_of(out, r);
      for (int64_t i = 0; i < n; ++i) y[i] = in[i] * (factors != nullptr ? alpha * factors[i * step] : alpha);
    }
  });
}

void HostOps::do_add_vector(const Tensor& x, const Tensor& vector) {
  if (dry()) return;
  for (int64_t r = 0; r < x.shape[0]; ++r) {
    for (int64_t i = 0; i < x.shape[1]; ++i) row_of(x, r)[i] += vector.as<const float>()[i];
  }
}

void HostOps::do_clamp(const Tensor& x, float limit) {
  if (dry()) return;
  over(x.shape[0], x.shape[1], [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* y = row_of(x, r);
      for (int64_t i = 0; i < x.shape[1]; ++i) y[i] = std::clamp(y[i], -limit, limit);
    }
  });
}

void HostOps::do_match_rms(const Tensor& x, const Tensor& like, float floor) {
  if (dry()) return;
  const int64_t n = x.shape[1];
  const auto mean_square = [n](const float* values) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    return sum / static_cast<double>(n);
  };
  over(x.shape[0], 3 * n, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* y = row_of(x, r);
      const double own = std::max(mean_square(y), static_cast<double>(floor));
      const auto factor = static_cast<float>(std::sqrt(mean_square(row_of(like, r)) / own));
      for (int64_t i = 0; i < n; ++i) y[i] *= factor;
    }
  });
}

void HostOps::do_mix_streams(const Tensor& x, int64_t from, const Tensor& weights, const Tensor& out) {
  if (dry()) return;
  const int64_t width = x.shape[1] / from, to = out.shape[1] / width;
  over(x.shape[0], to * from * width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* w = row_of(weights, r);
      for (int64_t j = 0; j < to; ++j) {
        float* y = row_of(out, r) + j * width;
        std::fill_n(y, width, 0.0f);
        for (int64_t i = 0; i < from; ++i, ++w) {
          const float* in = row_of(x, r) + i * width;
          for (int64_t c = 0; c < width; ++c) y[c] += *w * in[c];
        }
      }
    }
  });
}

void HostOps::do_add_positions(const Tensor& table, int64_t offset, const Tensor& residual) {
  if (dry()) return;
  const int32_t* positions = input().positions.as<const int32_t>();
  for (int64_t r = 0; r < residual.shape[0]; ++r) {
    const int64_t at = positions[r] + offset;
    BAIZE_CHECK(at < table.shape[0]);
    float* y = row_of(residual, r);
    for (int64_t i = 0; i < residual.shape[1]; ++i) y[i] += table.as<const float>()[at * table.shape[1] + i];
  }
}

}  // namespace baize
