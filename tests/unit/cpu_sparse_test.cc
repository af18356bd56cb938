// Ops of sparse attention on the reference and the CPU backend, against values worked out by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "backend/ref/ref_backend.h"
#include "unit/op_step.h"

namespace baize {
namespace {

using namespace op_test;

std::vector<std::unique_ptr<Backend>> backends() {
  std::vector<std::unique_ptr<Backend>> both;
  both.push_back(make_ref_backend());
  both.push_back(make_cpu_backend(2));
  return both;
}

// Keys of one value: position t has key[t]; two heads ask with 1 and -1.
std::vector<int32_t> select(Backend& backend, const std::vector<float>& key, std::vector<float> weights,
                            int64_t top_k) {
  const auto last = static_cast<int64_t>(key.size()) - 1;
  PagedStep step({{0, 2}, {last, 1}}, {2, 1, 1}, 4, 0, DType::kF16);  // another sequence before it
  for (int64_t t = 0; t <= last; ++t) step.put(step.kv.k, step.offset(1, t, 0), key[static_cast<size_t>(t)]);
  for (int64_t t = 0; t < 2; ++t) step.put(step.kv.k, step.offset(0, t, 0), 1);
  const HostTensor q(DType::kF32, {3, 2, 1}), weight(DType::kF32, {3, 2}), selected(DType::kI32, {3, top_k});
  for (int64_t r = 0; r < 3; ++r) {
    q.f32()[2 * r] = 1;
    q.f32()[2 * r + 1] = -1;
    std::copy(weights.begin(), weights.end(), weight.f32() + 2 * r);
  }
  run_step(backend, step.input, [&](Ops& ops) { ops.select({2, 1, top_k}, q, weight, step.kv, selected); });
  EXPECT_EQ(selected.i32()[0], 0);  // sees itself only
  EXPECT_EQ(selected.i32()[1], -1);
  return {selected.i32() + 2 * top_k, selected.i32() + 3 * top_k};
}

TEST(SparseOps, TheIndexerKeepsTheBestPositionsInOrder) {
  for (const auto& backend : backends()) {
    const std::vector<float> key = {3, -2, 0.5f, 5, -4, 1};
    EXPECT_EQ(select(*backend, key, {1, 0}, 3), (std::vector<int32_t>{0, 3, 5}));
    EXPECT_EQ(select(*backend, key, {0, 1}, 2), (std::vector<int32_t>{1, 4}));
    EXPECT_EQ(select(*backend, key, {1, 2}, 2), (std::vector<int32_t>{3, 4}));
    EXPECT_EQ(select(*backend, key, {-1, -1}, 2), (std::vector<int32_t>{2, 5}));
    EXPECT_EQ(select(*backend, key, {1, 0}, 8), (std::vector<int32_t>{0, 1, 2, 3, 4, 5, -1, -1}));
  }
}

TEST(SparseOps, OfEqualScoresTheFirstPositionWins) {
  for (const auto& backend : backends()) {
    EXPECT_EQ(select(*backend, {-1, -2, 4, -3, -1, 4, -1}, {1, 0}, 4), (std::vector<int32_t>{0, 1, 2, 5}));
  }
}

TEST(SparseOps, AttentionSeesOnlyWhatIsSelected) {
  PagedStep step({{3, 1}}, {1, 1, 1}, 4, 0, DType::kF32);
  for (int64_t t = 0; t < 4; ++t) {
    step.put(step.kv.k, step.offset(0, t, 0), 1);
    step.put(step.kv.v, step.offset(0, t, 0), std::pow(10.0f, static_cast<float>(t)));
  }
  const HostTensor q = random_tensor({1, 1, 1}, 1), out(DType::kF32, {1, 1, 1}), chosen(DType::kI32, {1, 3});
  chosen.i32()[0] = 1;
  chosen.i32()[1] = 3;
  chosen.i32()[2] = -1;
  AttnArgs args{.shape = {1, 1, 1}};
  args.selected = chosen;
  const auto ref = make_ref_backend();
  run_step(*ref, step.input, [&](Ops& ops) { ops.attention(args, q, step.kv, out); });
  EXPECT_FLOAT_EQ(out.f32()[0], 505);
}

}  // namespace
}  // namespace baize
