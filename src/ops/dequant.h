// Scalar dequantisation: the definition of what the bytes of every stored weight type mean. Backends are tested against
// it, `ref` computes with it. Its floats are bitwise equal to those of the `gguf` Python package's quants.dequantize:
// the same operations in the same order, compiled without contraction. Stateless; any thread.
#pragma once

#include <cstdint>

#include "tensor/quant_format.h"

namespace baize {

/// Writes the `k` weights of one row as f32. `row` holds format.row_bytes(k) bytes at any alignment; `k` must be a
/// multiple of format.block_elems(). Plain formats: f32, f16, bf16.
void dequantize_row(const QuantFormat& format, const void* row, int64_t k, float* out);

}  // namespace baize
