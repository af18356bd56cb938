// Rotary embedding at load: from a checkpoint's metadata to a RopeSpec (Meta::rope, in rope.cc), and from a RopeSpec to
// the inverse frequencies that the ops multiply positions by. Pure functions; any thread.
#pragma once

#include <vector>

#include "model/spec.h"

namespace baize {

/// inv_freq [rot_dim / 2] with every load-time scaling folded in. Formulas: see RopeSpec's sources; computed in f32
/// like the reference implementations, so that angles agree at long positions.
std::vector<float> inverse_frequencies(const RopeSpec& spec);

}  // namespace baize
