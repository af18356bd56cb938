// Mutation switches: each mechanism that changes results can be turned off by name, to prove that some test then fails
// (`make mutate`, tools/mutate.py). Put `if (mutated("rope.yarn")) return plain;` where the mechanism acts; names are
// "area.mechanism", each a string literal. In normal builds the call is the constant false. Any thread.
#pragma once

#include <string_view>

namespace baize {

#ifdef BAIZE_MUTATE
/// True if the environment variable BAIZE_MUTATE equals `name`. The variable is read once a process.
bool mutated(std::string_view name);
#else
constexpr bool mutated(std::string_view) { return false; }
#endif

}  // namespace baize
