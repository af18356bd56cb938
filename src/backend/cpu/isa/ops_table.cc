#include "backend/cpu/isa/ops_kernels.h"

namespace baize::cpu::BAIZE_ISA {

extern const OpKernels kOpKernels;
constinit const OpKernels kOpKernels = {
    .rms_norm = rms_norm,
    .add = add,
    .multiply = multiply,
    .gated = gated,
    .rotate = rotate,
    .to_f16 = to_f16,
    .attend_few = attend_few,
    .combine = combine,
    .attend_many = attend_many,
    .attend_many_scratch = attend_many_scratch,
};

}  // namespace baize::cpu::BAIZE_ISA
