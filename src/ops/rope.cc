#include "ops/rope.h"

#include <cmath>

namespace baize {

std::vector<float> rope_frequencies(const Rope& rope, int64_t length) {
  const int64_t pairs = rope.inv_freq.shape[0];
  const float* stored = rope.inv_freq.as<const float>();
  std::vector<float> frequencies(stored, stored + pairs);
  if (rope.dynamic_factor <= 0 || length <= rope.dynamic_length) return frequencies;
  const auto dim = static_cast<double>(rope.rot_dim());
  const double factor = rope.dynamic_factor;
  const double stretch = factor * static_cast<double>(length) / static_cast<double>(rope.dynamic_length) - (factor - 1);
  const double base = rope.theta * std::pow(stretch, dim / (dim - 2));
  for (int64_t i = 0; i < pairs; ++i) {
    frequencies[static_cast<size_t>(i)] = static_cast<float>(1.0 / std::pow(base, 2.0 * static_cast<double>(i) / dim));
  }
  return frequencies;
}

}  // namespace baize
