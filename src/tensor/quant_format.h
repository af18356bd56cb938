// QuantFormat: how the values of a weight matrix are stored, apart from where. Plain data, compared by value.
#pragma once

#include <string>

#include "tensor/dtype.h"
#include "tensor/gguf_type.h"

namespace baize {

/// Plain: elements of `elem`, row-major. Gguf: blocks of `block` along k, rows contiguous.
enum class Scheme : uint8_t { kPlain, kGguf };

struct QuantFormat {
  Scheme scheme = Scheme::kPlain;
  DType elem = DType::kF32;         // for kPlain
  GgufType block = GgufType::kF32;  // for kGguf; never one of the plain GGUF types (those are kPlain)

  friend bool operator==(const QuantFormat&, const QuantFormat&) = default;

  static constexpr QuantFormat plain(DType elem) { return {Scheme::kPlain, elem, GgufType::kF32}; }
  /// The plain GGUF types map to Scheme::kPlain.
  static QuantFormat gguf(GgufType type);

  /// Weights of one block along k (1 for plain).
  int block_elems() const;
  /// Bytes of a row of k weights; k must be a multiple of block_elems().
  int64_t row_bytes(int64_t k) const;
  /// "bf16", "Q4_K", ...
  std::string name() const;
};

}  // namespace baize
