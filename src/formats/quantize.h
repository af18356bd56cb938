// Quantisers: rows of f32 weights into every weight type of GGUF that Baize computes with; the other way round than
// dequantize_row (ops/dequant.h), which defines what the bytes mean. Scales are searched for the least squared error of
// what will be read back. Stateless; any thread.
#pragma once

#include <cstdint>

#include "tensor/gguf_type.h"

namespace baize {

/// Writes gguf_row_bytes(type, k) bytes to `out`. `k` must be a multiple of the type's block_elems; the weights must be
/// finite.
void quantize_row(GgufType type, const float* weights, int64_t k, void* out);

}  // namespace baize
