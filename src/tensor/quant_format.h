// QuantFormat: how the values of a weight matrix are stored, apart from where. Plain data, compared by value.
#pragma once

#include <string>

#include "tensor/dtype.h"
#include "tensor/gguf_type.h"

namespace baize {

/// Plain: elements of `elem`, row-major. Gguf: blocks of `block` along k, rows contiguous. Fp8: a row is its k e4m3
/// weights, zeros up to a multiple of 16 bytes, then f32 scales, one for each `group` weights (the last group may be
/// short), and zeros up to a multiple of 16 bytes again. A weight is its e4m3 value times its scale.
enum class Scheme : uint8_t { kPlain, kGguf, kFp8 };

struct QuantFormat {
  Scheme scheme = Scheme::kPlain;
  DType elem = DType::kF32;         // for kPlain
  GgufType block = GgufType::kF32;  // for kGguf; never one of the plain GGUF types (those are kPlain)
  int group = 0;                    // for kFp8: weights that share a scale; 0: the whole row

  friend bool operator==(const QuantFormat&, const QuantFormat&) = default;

  static constexpr QuantFormat plain(DType elem) { return {Scheme::kPlain, elem, GgufType::kF32, 0}; }
  static constexpr QuantFormat fp8(int group) { return {Scheme::kFp8, DType::kU8, GgufType::kF32, group}; }
  /// The plain GGUF types map to Scheme::kPlain.
  static QuantFormat gguf(GgufType type);

  /// Of kFp8: scales of a row of k weights, and where in the row they begin.
  int64_t scales(int64_t k) const { return group == 0 ? 1 : (k + group - 1) / group; }
  static constexpr int64_t scales_offset(int64_t k) { return (k + 15) / 16 * 16; }

  /// Weights of one block along k (1 where rows of any length are possible).
  int block_elems() const;
  /// Bytes of a row of k weights; k must be a multiple of block_elems().
  int64_t row_bytes(int64_t k) const;
  /// "bf16", "Q4_K", "fp8", "fp8/128", ...
  std::string name() const;
};

}  // namespace baize
