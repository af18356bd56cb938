// Which kernel is chosen for which weights: no variant may fall back to the generic kernels for a listed type.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "backend/cpu/linear/registry.h"
#include "unit/linear_cases.h"

namespace baize::cpu {
namespace {

TEST(LinearRegistry, EveryVariantHasItsOwnKernelForEveryType) {
  for (const Isa isa : usable_isas()) {
    const std::string prefix = std::string(to_string(isa)) + ".";
    for (const QuantFormat& format : all_formats()) {
      for (const Compute compute : {Compute::kExact, Compute::kAuto, Compute::kInvariant}) {
        Linear linear;
        linear.shape = {format, 64, 512};
        choose_kernels(linear_kernels(isa), compute, linear);
        for (const LinearKernel* kernel : linear.by_m) {
          EXPECT_EQ(std::string(kernel->name).substr(0, prefix.size()), prefix) << format.name();
        }
      }
    }
  }
}

TEST(LinearRegistry, Avx2IsAmongTheVariantsWhereTheMachineHasIt) {
#if defined(__x86_64__)
  std::set<Isa> usable(usable_isas().begin(), usable_isas().end());
  EXPECT_EQ(usable.contains(Isa::kAvx2), __builtin_cpu_supports("avx2") != 0);
#endif
  EXPECT_EQ(usable_isas().back(), Isa::kGeneric);
}

TEST(LinearRegistry, NamesAreUnique) {
  for (const Isa isa : usable_isas()) {
    std::set<std::string> names;
    for (const LinearKernel* kernel : linear_kernels(isa)) {
      EXPECT_TRUE(names.insert(kernel->name).second) << kernel->name;
    }
  }
}

// Quantised weights have one layout, plain ones none: changing the mode or m never needs a second copy.
TEST(LinearRegistry, OnePackForAllRangesAndModes) {
  for (const QuantFormat& format : all_formats()) {
    for (const Compute compute : {Compute::kExact, Compute::kAuto, Compute::kInvariant}) {
      Linear linear;
      linear.shape = {format, 33, 512};
      const Pack* pack = choose_kernels(linear_kernels(chosen_isa()), compute, linear);
      if (format.scheme != Scheme::kGguf) {
        EXPECT_EQ(pack, nullptr);
        continue;
      }
      ASSERT_NE(pack, nullptr);
      EXPECT_STREQ(pack->name, "x16");
      EXPECT_EQ(pack->bytes(linear.shape), 48 * format.row_bytes(512)) << "as many bytes as stored, rows up to 16";
    }
  }
}

}  // namespace
}  // namespace baize::cpu
