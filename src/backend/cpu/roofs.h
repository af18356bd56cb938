// Roofs: what this machine can do at most, measured by small loops, so that speeds can be told next to it: reading
// memory, multiplying and adding f32, and int8. Measured on the backend's thread pool; one caller at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/thread_pool.h"
#include "ops/backend.h"

namespace baize::cpu {

/// The loops, compiled once a variant (isa/roofs.cc). Each works on the calling thread.
struct RoofKernels {
  /// Reads `bytes` (a multiple of 1024) once; the result only keeps the compiler from leaving that out.
  int64_t (*read)(const std::byte* data, int64_t bytes);
  /// Runs `rounds` rounds of the respective number of operations, a multiply-add counted as two.
  float (*f32)(int64_t rounds);
  int64_t f32_round_operations;
  int64_t (*int8)(int64_t rounds);
  int64_t int8_round_operations;
};

/// The table of a variant that usable_isas() lists.
const RoofKernels& roof_kernels(Isa isa);

/// Takes about a second.
std::vector<Roof> measure_roofs(ThreadPool& pool, const RoofKernels& kernels);

}  // namespace baize::cpu
