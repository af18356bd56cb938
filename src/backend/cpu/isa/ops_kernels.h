// The op kernels of one variant, as ops_table.cc collects them into OpKernels (backend/cpu/kernels.h describes each).
// Included by files of backend/cpu/isa/ only.
#pragma once

#include "backend/cpu/kernels.h"

namespace baize::cpu::BAIZE_ISA {

void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* out);
void add(float* sum, const float* x, int64_t n);
void multiply(float* x, float factor, int64_t n);
void gated(Activation activation, const float* gate, const float* up, int64_t n, float* out);
void rotate(float* head, const float* cosines, const float* sines, int64_t pairs, bool interleaved);
void to_f16(const float* x, int64_t n, uint16_t* out);
void attend_few(const AttnTask& task, int64_t tile, float* partials, int64_t partial_stride);
void combine(const float* partials, int64_t tiles, int64_t tile_stride, int64_t head_dim, float* out);
void attend_many(const AttnTask& task, float* scratch);
int64_t attend_many_scratch(int64_t queries, int64_t head_dim);

}  // namespace baize::cpu::BAIZE_ISA
