// RefBackend: the scalar reference, one thread, f32 throughout. It is the definition of every op: plain loops to read
// and to test the other backends against, and slow. Named by apps/ and tests only; see ops/backend.h for threads.
#pragma once

#include <memory>

#include "ops/backend.h"

namespace baize {

std::unique_ptr<Backend> make_ref_backend();

}  // namespace baize
