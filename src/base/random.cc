#include "base/random.h"

#include <random>

namespace baize {

uint64_t random_seed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 20) ^ device();
}

}  // namespace baize
