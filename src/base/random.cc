#include "base/random.h"

#include <random>

namespace baize {

uint64_t random_seed() {
  thread_local std::random_device device;  // making one asks the processor what it can do, which is slow
  return (static_cast<uint64_t>(device()) << 20) ^ device();
}

}  // namespace baize
