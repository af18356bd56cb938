// Linear: a weight matrix with the kernels chosen for it at load; LinearKernel: one way to multiply by it.
// A backend lists its kernels; choose_kernels picks, for each range of row counts, the supporting kernel of the highest
// priority, all from one pack, so that a weight is never resident in two layouts. Immutable after load; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/quant_format.h"
#include "tensor/tensor.h"

namespace baize {

/// Exact: f32 arithmetic on the stored weights (tests). Auto: the fastest kernels, what users run. Invariant: as auto,
/// but what a row comes to does not depend on the rows computed with it, nor on how many there are: one kernel for
/// every range of rows. Not every backend has that (Backend::has_invariant).
enum class Compute : uint8_t { kExact, kAuto, kInvariant };

/// Ranges of m, the rows of one multiplication: a kernel is chosen for each.
enum class MRange : uint8_t { kOne, kFew, kMany };
inline constexpr int kMRanges = 3;
inline constexpr int64_t kFewRows = 16;  // kFew is 2..kFewRows
constexpr MRange m_range(int64_t m) { return m <= 1 ? MRange::kOne : m <= kFewRows ? MRange::kFew : MRange::kMany; }

struct LinearShape {
  QuantFormat format;
  int64_t n = 0;  // output features
  int64_t k = 0;  // input features, contiguous in a row of weights
};

/// A layout of weights in memory other than the stored one. Kernels that read the same layout share the object.
struct Pack {
  const char* name;  // "q4x8", ...
  int64_t (*bytes)(const LinearShape&);
  /// Repacks rows [row_begin, row_end) (multiples of row_step, or the end) from the stored layout; host memory, and
  /// safe to call for disjoint ranges from several threads.
  void (*repack)(const LinearShape&, const std::byte* stored, std::byte* packed, int64_t row_begin, int64_t row_end);
  int row_step;
  /// Of a layout that keeps the scales of its weights apart: how many there are, and how to fetch those of some rows.
  int64_t (*scale_count)(const LinearShape&) = nullptr;
  void (*repack_scales)(const LinearShape&, const std::byte* stored, float* scales, int64_t row_begin,
                        int64_t row_end) = nullptr;
};

struct LinearKernel;

struct Linear {
  LinearShape shape;
  float alpha = 1;  // result = alpha * (x . w) + bias
  Tensor w;         // u8 [bytes]: stored rows, or the pack of the chosen kernels
  Tensor scales;    // f32 [scale_count]: of a pack that keeps them apart
  Tensor bias;      // f32 [n]; absent: none
  std::array<const LinearKernel*, kMRanges> by_m{};

  bool present() const { return shape.n > 0; }
  const LinearKernel& kernel(int64_t m) const { return *by_m[static_cast<size_t>(m_range(m))]; }
};

/// Applied to results in f32 before they are stored.
struct Epilogue {
  float softcap = 0;  // > 0: softcap * tanh(result / softcap)
};

/// What a kernel runs on: defined by each backend (thread pool, stream).
struct Exec {};

/// One multiplication. out[r, j] = epilogue(alpha * sum_i x[r, i] * w[j, i] + bias[j]).
struct LinearCall {
  const Linear* linear;
  Tensor x;    // [m, k] activation dtype, rows may be strided
  Tensor out;  // [m, n] rows may be strided
  Epilogue epilogue;
};

struct LinearQuery {
  LinearShape shape;
  Compute compute = Compute::kAuto;
  MRange range = MRange::kOne;
};

struct LinearKernel {
  const char* name;  // "avx2.q4_k.gemv", ...: unique in its backend
  const Pack* pack;  // null: the stored layout
  int priority;      // higher is preferred
  bool (*supports)(const LinearQuery&);
  int64_t (*workspace)(const LinearShape&, int64_t m);  // bytes of temporary memory
  /// `calls` share x; a kernel may prepare it (quantise) once for all. They all have this kernel chosen for m.
  void (*run)(Exec&, std::span<const LinearCall> calls, void* workspace);
};

/// Fills linear.by_m from `kernels`. Among the packs with a kernel for every range, takes the one whose kernels have
/// the highest sum of priorities (first listed on a tie) and returns it; null is the stored layout.
/// Throws Error(kUnsupported) naming the format when no pack serves every range.
const Pack* choose_kernels(std::span<const LinearKernel* const> kernels, Compute compute, Linear& linear);

}  // namespace baize
