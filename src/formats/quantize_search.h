// Searches for the scales of a group of weights; the inside of the quantisers (quantize.h). Each tries a few dozen
// scales around the one that just covers the group, rounds to them and refits the scale by least squares. Stateless.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace baize {

inline int nearest(float x, int low, int high) {
  return static_cast<int>(std::lrint(std::clamp(x, static_cast<float>(low), static_cast<float>(high))));
}

/// The value of the greatest magnitude, with its sign.
inline float extreme(const float* x, int n) {
  float most = 0;
  for (int i = 0; i < n; ++i) most = std::abs(x[i]) > std::abs(most) ? x[i] : most;
  return most;
}

/// d such that the x are nearest to d q for whole q in [low, high]; negative where that uses the levels better, 0 for
/// zeros.
inline float fit_scale(const float* x, int n, int low, int high) {
  const float most = extreme(x, n);
  if (!(std::abs(most) > 1e-30f)) return 0;
  constexpr int kTries = 12;
  const float tenth = 0.1f * std::max(1.0f, static_cast<float>(-low) / 16);
  float best = 0, best_gain = -1;
  for (const int end : {low, high}) {
    for (int attempt = -kTries; attempt <= kTries; ++attempt) {
      const float inverse = (static_cast<float>(end) + tenth * static_cast<float>(attempt)) / most;
      float xq = 0, qq = 0;
      for (int i = 0; i < n; ++i) {
        const float q = std::nearbyint(std::clamp(x[i] * inverse, static_cast<float>(low), static_cast<float>(high)));
        xq += x[i] * q;
        qq += q * q;
      }
      // With d = xq / qq the squared error is the x's own less xq * xq / qq.
      if (qq > 0 && xq * xq > best_gain * qq) {
        best_gain = xq * xq / qq;
        best = xq / qq;
      }
    }
  }
  return best;
}

struct ScaleAndMin {
  float scale = 0, min = 0;  // x = scale q + min
};

/// Such that the x are nearest to scale q + min for whole q in [0, levels]. `below`: min is at most 0.
inline ScaleAndMin fit_scale_and_min(const float* x, int n, int levels, bool below) {
  float low = x[0], high = x[0], sum = 0;
  for (int i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    sum += x[i];
  }
  if (below) low = std::min(low, 0.0f);
  if (!(high - low > 1e-30f)) return {0, below ? std::min(low, 0.0f) : low};
  constexpr int kTries = 12;
  const auto top = static_cast<float>(levels), count = static_cast<float>(n);
  ScaleAndMin best{(high - low) / top, low};
  float least = 3e38f;
  for (int attempt = -kTries; attempt <= kTries; ++attempt) {
    const float inverse = (top + 0.1f * static_cast<float>(attempt) * std::max(1.0f, top / 16)) / (high - low);
    // Twice: where the least value lies is fitted, too.
    ScaleAndMin fit{1 / inverse, low};
    for (int round = 0; round < 2; ++round) {
      float q1 = 0, q2 = 0, xq = 0;
      for (int i = 0; i < n; ++i) {
        const float q = std::nearbyint(std::clamp((x[i] - fit.min) / fit.scale, 0.0f, top));
        q1 += q;
        q2 += q * q;
        xq += x[i] * q;
      }
      const float determinant = count * q2 - q1 * q1;
      if (!(determinant > 0)) break;
      fit = {(count * xq - sum * q1) / determinant, (q2 * sum - q1 * xq) / determinant};
      if (below && fit.min > 0) fit = {xq / q2, 0};
      if (!(fit.scale > 0)) break;
    }
    if (!(fit.scale > 0)) continue;
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const float q = std::nearbyint(std::clamp((x[i] - fit.min) / fit.scale, 0.0f, top));
      const float off = fit.scale * q + fit.min - x[i];
      error += off * off;
    }
    if (error < least) {
      least = error;
      best = fit;
    }
  }
  return best;
}

/// Index of the entry of an ascending table that is nearest to x.
template <typename T>
int nearest_in(const T* table, int count, float x) {
  int at = 0;
  while (at + 1 < count && x > (static_cast<float>(table[at]) + static_cast<float>(table[at + 1])) / 2) ++at;
  return at;
}

/// d such that the x are nearest to d times entries of an ascending table.
template <typename T>
float fit_table_scale(const float* x, int n, const T* table, int count) {
  const float most = extreme(x, n);
  if (!(std::abs(most) > 1e-30f)) return 0;
  constexpr int kTries = 8;
  float best = 0, best_gain = -1;
  for (const int end : {0, count - 1}) {
    for (int attempt = -kTries; attempt <= kTries; ++attempt) {
      const float inverse = static_cast<float>(table[end]) * (1 + 0.015f * static_cast<float>(attempt)) / most;
      float xv = 0, vv = 0;
      for (int i = 0; i < n; ++i) {
        const auto v = static_cast<float>(table[nearest_in(table, count, x[i] * inverse)]);
        xv += x[i] * v;
        vv += v * v;
      }
      if (vv > 0 && xv * xv > best_gain * vv) {
        best_gain = xv * xv / vv;
        best = xv / vv;
      }
    }
  }
  return best;
}

/// Quantisers of blocks of 256 (quantize_k.cc).
struct BlockQ2_K;
struct BlockQ3_K;
struct BlockQ4_K;
struct BlockQ5_K;
struct BlockQ6_K;
struct BlockIQ4_XS;
void encode(const float* x, BlockQ2_K& block);
void encode(const float* x, BlockQ3_K& block);
void encode(const float* x, BlockQ4_K& block);
void encode(const float* x, BlockQ5_K& block);
void encode(const float* x, BlockQ6_K& block);
void encode(const float* x, BlockIQ4_XS& block);

}  // namespace baize
