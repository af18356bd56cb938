#include "base/mutate.h"

#ifdef BAIZE_MUTATE
#include <cstdlib>
#include <string>

namespace baize {

bool mutated(std::string_view name) {
  static const std::string chosen = [] {
    const char* value = std::getenv("BAIZE_MUTATE");
    return std::string(value ? value : "");
  }();
  return chosen == name;
}

}  // namespace baize
#endif
