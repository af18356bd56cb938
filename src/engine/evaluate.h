// evaluate: the logits of every position of a text, computed as the engine computes them: through the paged cache, in
// the given pieces. For tests and scripts. Any thread, one call a backend at a time.
#pragma once

#include <span>
#include <vector>

#include "engine/runner.h"

namespace baize {

/// Feeds `ids` in pieces of `chunks` tokens (empty: one piece) and returns the logits, [ids, vocab].
/// Throws Error(kInvalidArgument) for no ids, ids outside the vocabulary or pieces that do not add up to them, and
/// Error(kResource) for more ids than the model's context.
std::vector<float> evaluate(std::shared_ptr<const Model> model, Backend& backend, Compute compute,
                            std::span<const Token> ids, std::span<const int64_t> chunks);

}  // namespace baize
