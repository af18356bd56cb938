// The one packed layout of quantised weights on the CPU, "x16": 16 rows side by side in as many bytes as they are
// stored in (rows rounded up to 16). Described in linear/layout.h; every variant's kernels read it. Stateless; any
// thread.
#pragma once

#include "backend/cpu/linear/layout.h"
#include "ops/linear.h"

namespace baize::cpu {

extern const Pack kPackX16;

/// The index of a quantised GGUF type in the kernel tables; kQuantTypes for a type that has none.
QuantType quant_type(GgufType type);
GgufType gguf_type(QuantType type);

/// Bytes of one packed panel: 16 rows of k weights.
int64_t panel_bytes(const LinearShape& shape);

}  // namespace baize::cpu
