// The loops behind `bench --roof` run on every variant of this machine and read what they claim to.
#include "backend/cpu/roofs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace baize::cpu {
namespace {

TEST(Roofs, LoopsDoTheirWork) {
  // The sum is over one lane of the vectors: of equal words, a known share.
  std::vector<int32_t> words(4096, 3);
  const auto bytes = static_cast<int64_t>(words.size() * sizeof(int32_t));
  for (const Isa isa : usable_isas()) {
    const RoofKernels& kernels = roof_kernels(isa);
    const int64_t sum = kernels.read(reinterpret_cast<const std::byte*>(words.data()), bytes);
    EXPECT_GT(sum, 0) << to_string(isa);
    EXPECT_EQ(static_cast<int64_t>(words.size()) * 3 % sum, 0) << to_string(isa);
    EXPECT_EQ(kernels.read(reinterpret_cast<const std::byte*>(words.data()), bytes / 2), sum / 2) << to_string(isa);
    EXPECT_GT(kernels.f32(100), 0) << to_string(isa);
    EXPECT_NE(kernels.int8(100), kernels.int8(101)) << to_string(isa);
    EXPECT_GT(kernels.f32_round_operations, 0);
    EXPECT_GT(kernels.int8_round_operations, 0);
  }
}

TEST(Roofs, AreMeasured) {
  ThreadPool pool(2);
  const std::vector<Roof> roofs = measure_roofs(pool, roof_kernels(usable_isas().front()));
  ASSERT_EQ(roofs.size(), 3u);
  for (const Roof& roof : roofs) EXPECT_TRUE(std::isfinite(roof.value) && roof.value > 0) << roof.name;
}

}  // namespace
}  // namespace baize::cpu
