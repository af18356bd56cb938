#include "backend/cpu/isa.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"

#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace baize::cpu {

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::kGeneric:
      return "generic";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAmx:
      return "amx";
    case Isa::kNeon:
      return "neon";
  }
  return "?";
}

namespace {

#if defined(__x86_64__)
// Linux hands out the AMX tile state on request, once a process.
bool request_amx() {
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0;
}

// CPUID leaf 7: AMX-INT8 and AMX-BF16 are EDX bits 25 and 22 (g++ 12 has no name for them).
bool has_amx() {
  unsigned a = 7;
  unsigned c = 0;
  unsigned b = 0;
  unsigned d = 0;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return (d >> 25 & 1u) != 0 && (d >> 22 & 1u) != 0 && (d >> 24 & 1u) != 0;
}
#endif

std::vector<Isa> find_usable() {
  std::vector<Isa> usable;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
  if (avx512 && has_amx() && request_amx()) usable.push_back(Isa::kAmx);
  if (avx512) usable.push_back(Isa::kAvx512);
  if (avx2) usable.push_back(Isa::kAvx2);
#elif defined(__aarch64__)
  const unsigned long hwcap = getauxval(AT_HWCAP);
  if ((hwcap & HWCAP_ASIMDDP) != 0 && (hwcap & HWCAP_ASIMDHP) != 0) usable.push_back(Isa::kNeon);
#endif
  usable.push_back(Isa::kGeneric);
  return usable;
}

}  // namespace

std::span<const Isa> usable_isas() {
  static const std::vector<Isa> usable = find_usable();
  return usable;
}

Isa chosen_isa() {
  const char* wanted = std::getenv("BAIZE_ISA");
  if (wanted == nullptr || *wanted == '\0') return usable_isas().front();
  std::string names;
  for (const Isa isa : usable_isas()) {
    if (to_string(isa) == wanted) return isa;
    names += (names.empty() ? "" : ", ") + std::string(to_string(isa));
  }
  fail(ErrorKind::kInvalidArgument, "BAIZE_ISA=\"{}\" is not usable here; this machine runs: {}", wanted, names);
}

}  // namespace baize::cpu
