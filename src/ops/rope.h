// Rotation frequencies that depend on the length of a sequence, shared by the host backends. Pure; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/ops.h"

namespace baize {

/// The frequencies of `rope` (host memory) for a sequence of `length` tokens: inv_freq, or, past the length that
/// dynamic NTK scaling begins at, those of the stretched base (see Rope; formula of the `transformers` library).
std::vector<float> rope_frequencies(const Rope& rope, int64_t length);

}  // namespace baize
