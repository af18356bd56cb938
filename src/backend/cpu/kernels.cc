#include "backend/cpu/kernels.h"

#include "base/check.h"

namespace baize::cpu {

#if defined(__x86_64__)
#define BAIZE_EACH_ISA(X) X(generic, kGeneric) X(avx2, kAvx2) X(avx512, kAvx512) X(amx, kAmx)
#elif defined(__aarch64__)
#define BAIZE_EACH_ISA(X) X(generic, kGeneric) X(neon, kNeon)
#else
#define BAIZE_EACH_ISA(X) X(generic, kGeneric)
#endif

#define BAIZE_DECLARE(name, isa)     \
  namespace name {                   \
  extern const OpKernels kOpKernels; \
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

}  // namespace baize::cpu
