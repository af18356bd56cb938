// Runs matrix kernels: splits a multiplication into panels of 16 weight rows and stretches of activation rows, hands
// these to the threads, and applies the epilogue. No sum is ever split between threads, so results do not depend on
// their number. Called by the thread that runs the step.
#pragma once

#include <span>

#include "backend/cpu/linear/layout.h"
#include "ops/linear.h"

namespace baize::cpu {

/// Quantised weights (packed) x int8 activations.
int64_t quant_workspace(const IsaLinear& isa, QuantType type, const LinearShape& shape, int64_t m);
/// `one`: there is one row, and the kernel for that is to be used.
void run_quant(const IsaLinear& isa, QuantType type, Exec& exec, std::span<const LinearCall> calls, void* workspace,
               bool one);

/// Quantised weights (packed) x f32 activations, in f32.
void run_exact(const IsaLinear& isa, QuantType type, Exec& exec, std::span<const LinearCall> calls);

/// Plain weights (as stored) x f32 activations, in f32: dot products along rows, or panels for many rows.
void run_plain(const IsaLinear& isa, PlainType type, Exec& exec, std::span<const LinearCall> calls, bool dot);

/// FP8 weights (as stored) x f32 activations, in f32.
void run_fp8(const IsaLinear& isa, Exec& exec, std::span<const LinearCall> calls, bool dot);

/// Either of the first two kinds of weights x activations, both rounded to bf16, on matrix tiles: for many rows.
int64_t tile_workspace(const LinearShape& shape, int64_t m);
void run_quant_tiles(const IsaLinear& isa, QuantType type, Exec& exec, std::span<const LinearCall> calls,
                     void* workspace);
void run_plain_tiles(const IsaLinear& isa, PlainType type, Exec& exec, std::span<const LinearCall> calls,
                     void* workspace);

}  // namespace baize::cpu
