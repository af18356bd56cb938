// The matrix kernels of the CPU backend, as choose_kernels takes them. Built once, on first use; immutable, any thread.
#pragma once

#include <span>

#include "backend/cpu/isa.h"
#include "ops/linear.h"

namespace baize::cpu {

/// Kernels of `isa` (which must be usable here) and the generic ones that it falls back to. Their Exec is a CpuExec, x
/// and out are f32 in host memory with adjacent columns. Results do not depend on the number of threads.
std::span<const LinearKernel* const> linear_kernels(Isa isa);

}  // namespace baize::cpu
