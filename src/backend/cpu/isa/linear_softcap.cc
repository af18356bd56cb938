// The softcap epilogue of the matrix kernels. A file of its own: vec.h and the headers of linear.cc name the same
// things.
#include "backend/cpu/isa/vec.h"

namespace baize::cpu::BAIZE_ISA {

/// values[16 n] = cap * tanh(values / cap).
void softcap(float* values, int64_t n, float cap);
void softcap(float* values, int64_t n, float cap) {
  for (int64_t i = 0; i < 16 * n; i += kLanes) store(values + i, cap * tanh(load(values + i) * (1 / cap)));
}

}  // namespace baize::cpu::BAIZE_ISA
