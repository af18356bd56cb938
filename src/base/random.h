// Numbers that nobody can foresee: seeds and ids. Any thread.
#pragma once

#include <cstdint>

namespace baize {

/// For answers that nobody gave a seed; below 2^53, so that JSON and options can carry it.
uint64_t random_seed();

}  // namespace baize
