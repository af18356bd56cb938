// CpuBackend: this machine's processor, through a thread pool and kernels of the best instruction-set variant it runs.
// Named by apps/ and tests only; lives for the whole program, see ops/backend.h for threads.
#pragma once

#include <memory>
#include <optional>

#include "backend/cpu/isa.h"
#include "ops/backend.h"

namespace baize {

/// `threads` 0: one a physical core this process may use. Without `isa`, chosen_isa() decides (backend/cpu/isa.h),
/// which throws Error(kInvalidArgument) for a bad BAIZE_ISA; a given one must be usable.
std::unique_ptr<Backend> make_cpu_backend(int threads, std::optional<cpu::Isa> isa = std::nullopt);

}  // namespace baize
