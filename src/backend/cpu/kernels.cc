#include "backend/cpu/kernels.h"

#include "backend/cpu/roofs.h"
#include "base/check.h"

namespace baize::cpu {

#if defined(__x86_64__)
#define BAIZE_EACH_ISA(X) X(generic, kGeneric) X(avx2, kAvx2) X(avx512, kAvx512) X(amx, kAmx)
#elif defined(__aarch64__)
#define BAIZE_EACH_ISA(X) X(generic, kGeneric) X(neon, kNeon)
#else
#define BAIZE_EACH_ISA(X) X(generic, kGeneric)
#endif

#define BAIZE_DECLARE(name, isa)         \
  namespace name {                       \
  extern const OpKernels kOpKernels;     \
  extern const RoofKernels kRoofKernels; \
  }
BAIZE_EACH_ISA(BAIZE_DECLARE)

const OpKernels& op_kernels(Isa isa) {
  switch (isa) {
#define BAIZE_CASE(name, value) \
  case Isa::value:              \
    return name::kOpKernels;
    BAIZE_EACH_ISA(BAIZE_CASE)
    default:
      BAIZE_UNREACHABLE("no op kernels for this variant");
  }
}

const RoofKernels& roof_kernels(Isa isa) {
  switch (isa) {
#define BAIZE_ROOF_CASE(name, value) \
  case Isa::value:                   \
    return name::kRoofKernels;
    BAIZE_EACH_ISA(BAIZE_ROOF_CASE)
    default:
      BAIZE_UNREACHABLE("no roof kernels for this variant");
  }
}

}  // namespace baize::cpu
