// Isa: the instruction-set variants of the CPU kernels. Every file in backend/cpu/isa/ is compiled once a variant, with
// that variant's flags and -DBAIZE_ISA=<name>, and keeps all its code in namespace baize::cpu::BAIZE_ISA: no inline
// function of a shared header may be instantiated there that other code also uses, or the linker could keep the copy
// with instructions the machine lacks. Immutable facts; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace baize::cpu {

/// Ordered: on one architecture a higher variant includes the lower ones.
enum class Isa : uint8_t { kGeneric, kAvx2, kAvx512, kAmx, kNeon };

std::string_view to_string(Isa isa);  // "generic", "avx2", "avx512", "amx", "neon"

/// Variants that this build holds and this machine runs, best first; never empty (generic is last).
std::span<const Isa> usable_isas();

/// The variant to use: the best one, or the one the environment variable BAIZE_ISA names.
/// Throws Error(kInvalidArgument) when that is unknown or not usable here, listing the usable ones.
Isa chosen_isa();

}  // namespace baize::cpu
