// What a checkpoint says about generating with it: default sampling and end tokens. Any thread.
#pragma once

#include <vector>

#include "engine/sampling.h"
#include "formats/checkpoint.h"

namespace baize::apps {

struct CheckpointDefaults {
  SamplingParams sampling;
  std::vector<Token> stop_ids;
};

/// Sampling from generation_config.json (greedy when it says do_sample: false) or a GGUF file's general.sampling.*
/// keys; end tokens from generation_config.json, else config.json, or the GGUF eos, eot and eom ids. Values that no
/// request may have are left out. Throws Error(kCorrupt) for values of the wrong type.
CheckpointDefaults checkpoint_defaults(const Checkpoint& checkpoint);

}  // namespace baize::apps
