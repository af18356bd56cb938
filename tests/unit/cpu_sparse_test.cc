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

// ---- compressed keys ----

// One sequence over pages of 4 tokens: `recent` values a token, and one entry of `dim` for `stride` tokens.
struct CompressedStep {
  CompressedStep(int64_t first, int64_t rows, int64_t recent, int64_t dim, int64_t stride)
      : step({{0, 16}}, {1, 1, recent}, 4, 0, DType::kF32),
        positions(int_tensor(std::vector<int32_t>(static_cast<size_t>(rows)))),
        memory(random_tensor({step.kv.k.shape[0], 2, 1, dim}, 3)) {
    for (int64_t i = 0; i < rows; ++i) positions.i32()[i] = static_cast<int32_t>(first + i);
    step.input.rows = rows;
    step.input.positions = positions;
    entries.k = entries.v = memory;
    entries.stride = stride;
    entries.block = 4;
  }
  /// Where entry e lies: with the last of its tokens.
  float* entry(int64_t e) const {
    const int64_t last = (e + 1) * entries.stride - 1, page = step.input.block_tables[0].as<int32_t>()[last / 4];
    const int64_t before = last / 4 * 4 / entries.stride;  // entries that ended in earlier pages
    return memory.f32() + page * entries.k.strides[0] + (e - before) * entries.k.strides[1];
  }
  void move_to(int64_t position) { positions.i32()[0] = static_cast<int32_t>(position); }

  PagedStep step;
  HostTensor positions, memory;
  KvView entries;
};

TEST(SparseOps, AnEntryIsAWeightedSumOfItsTokensInWhateverSteps) {
  const HostTensor weight = random_tensor({2}, 1), bias = random_tensor({2, 2}, 1);
  weight.f32()[0] = 2;
  weight.f32()[1] = 3;
  bias.f32()[0] = bias.f32()[1] = std::log(3.0f);  // the first of two tokens counts three times
  bias.f32()[2] = bias.f32()[3] = 0;
  CompressArgs args;
  args.rate = args.dim = 2;
  args.bias = bias;
  args.norm.weight = weight;
  const float values[4][2] = {{1, 1}, {0, 0}, {4, 0}, {8, 20}};  // (4 * 3 + 8) / 4 = 5 and (0 * 3 + 20) / 4 = 5
  for (const auto& backend : backends()) {
    CompressedStep step(0, 1, 4, 2, 2);
    for (int64_t t = 0; t < 4; ++t) {
      const HostTensor x = random_tensor({1, 4}, 1);
      for (int64_t i = 0; i < 2; ++i) x.f32()[i] = values[t][i];
      x.f32()[2] = x.f32()[3] = 7;
      step.move_to(t);
      run_step(*backend, step.step.input, [&](Ops& ops) { ops.compress(args, x, step.step.kv, step.entries); });
    }
    EXPECT_NEAR(step.entry(1)[0], 2, 1e-5);
    EXPECT_NEAR(step.entry(1)[1], 3, 1e-5);
  }
}

TEST(SparseOps, OverlappingEntriesTakeFromTheTokensBefore) {
  const HostTensor weight = random_tensor({2}, 1), bias(DType::kF32, {2, 4});
  weight.f32()[0] = weight.f32()[1] = 1;
  CompressArgs args;
  args.rate = args.dim = 2;
  args.overlap = true;
  args.bias = bias;
  args.norm.weight = weight;
  const HostTensor x(DType::kF32, {4, 8});
  for (int64_t t = 0; t < 4; ++t) {
    x.f32()[8 * t] = 1;      // the first set: (1, 0)
    x.f32()[8 * t + 3] = 1;  // the second: (0, 1)
  }
  for (const auto& backend : backends()) {
    CompressedStep step(0, 4, 8, 2, 2);
    run_step(*backend, step.step.input, [&](Ops& ops) { ops.compress(args, x, step.step.kv, step.entries); });
    EXPECT_FLOAT_EQ(step.entry(0)[0], 0);
    EXPECT_FLOAT_EQ(step.entry(0)[1], std::sqrt(2.0f));
    EXPECT_FLOAT_EQ(step.entry(1)[0], 1);
    EXPECT_FLOAT_EQ(step.entry(1)[1], 1);
  }
}

TEST(SparseOps, AttentionSeesTheWindowAndWholeEntries) {
  for (const auto& backend : backends()) {
    CompressedStep step(11, 1, 1, 1, 3);  // entries of tokens 0-2, 3-5, 6-8 and 9-11, over pages of 4
    for (int64_t t = 0; t < 16; ++t) step.step.put(step.step.kv.k, step.step.offset(0, t, 0), 1e4f);
    KvView keys = step.step.kv;
    keys.v = keys.k;
    for (int64_t e = 0; e < 4; ++e) *step.entry(e) = std::pow(10.0f, static_cast<float>(e));
    const HostTensor q(DType::kF32, {1, 1, 1}), out(DType::kF32, {1, 1, 1}), chosen(DType::kI32, {1, 2});
    AttnArgs args{.shape = {1, 1, 1}, .window = 1};
    args.entries = step.entries;
    const auto attend = [&] {
      run_step(*backend, step.step.input, [&](Ops& ops) { ops.attention(args, q, keys, out); });
      return out.f32()[0];
    };
    EXPECT_FLOAT_EQ(attend(), 11111.0f / 5);
    step.move_to(10);  // the fourth entry is not whole
    EXPECT_FLOAT_EQ(attend(), 10111.0f / 4);
    chosen.i32()[0] = 1;
    chosen.i32()[1] = -1;
    args.selected = chosen;
    EXPECT_FLOAT_EQ(attend(), 10010.0f / 2);
  }
}

TEST(SparseOps, TheIndexerChoosesAmongWholeEntries) {
  for (const auto& backend : backends()) {
    CompressedStep step(10, 1, 1, 1, 3);
    const float keys[] = {2, 1, 3, 9};
    for (int64_t e = 0; e < 4; ++e) *step.entry(e) = keys[e];
    const HostTensor q(DType::kF32, {1, 1, 1}), weights(DType::kF32, {1, 1}), chosen(DType::kI32, {1, 2});
    q.f32()[0] = weights.f32()[0] = 1;
    run_step(*backend, step.step.input, [&](Ops& ops) { ops.select({1, 1, 2}, q, weights, step.entries, chosen); });
    EXPECT_EQ(chosen.i32()[0], 0);
    EXPECT_EQ(chosen.i32()[1], 2);
  }
}

// ---- hyper-connections ----

HostTensor row(const std::vector<float>& values) {
  HostTensor t(DType::kF32, {1, static_cast<int64_t>(values.size())});
  std::copy(values.begin(), values.end(), t.f32());
  return t;
}

TEST(HyperOps, StreamsAreReadAndAddedToByWeight) {
  const HostTensor scale = random_tensor({2}, 1), base(DType::kF32, {4});
  scale.f32()[0] = 2;
  scale.f32()[1] = 1;
  HyperArgs args;
  args.streams = 2;
  args.magnitude = 2;
  args.eps = 0.25f;
  args.post_eps = 0.5f;
  args.scale = scale;
  args.base = base;
  const float rms = std::sqrt(12.5f), l = std::log(3.0f);
  for (const auto& backend : backends()) {
    const HostTensor x = row({3, 4}), logits = row({rms * l / 2, 0, -rms * l, 0});
    const HostTensor read(DType::kF32, {1, 1}), weights(DType::kF32, {1, 6}), given = row({10});
    run_step(*backend, rows_step(1), [&](Ops& ops) {
      ops.hyper_read(args, x, logits, read, weights);
      ops.hyper_write(args, x, given, weights);
    });
    EXPECT_FLOAT_EQ(read.f32()[0], (0.75f + 0.25f) * 3 + (0.5f + 0.25f) * 4);
    EXPECT_FLOAT_EQ(x.f32()[0], 3 + (2 * 0.25f + 0.5f) * 10);
    EXPECT_FLOAT_EQ(x.f32()[1], 4 + (2 * 0.5f + 0.5f) * 10);
  }
}

TEST(HyperOps, StreamsAreMixedFromRowsToColumns) {
  const HostTensor scale = random_tensor({3}, 1), base(DType::kF32, {15});
  for (const int64_t to : {6 + 1, 9 + 2, 12 + 0}) base.f32()[to] = 60;  // 0 -> 1, 1 -> 2, 2 -> 0
  HyperArgs args;
  args.streams = 3;
  args.mix_rounds = 5;
  args.magnitude = 2;
  args.eps = 1e-6f;
  args.scale = scale;
  args.base = base;
  for (const auto& backend : backends()) {
    const HostTensor x = row({1, 2, 3}), logits(DType::kF32, {1, 15}), given = row({10});
    const HostTensor read(DType::kF32, {1, 1}), weights(DType::kF32, {1, 12});
    run_step(*backend, rows_step(1), [&](Ops& ops) {
      ops.hyper_read(args, x, logits, read, weights);
      ops.hyper_write(args, x, given, weights);
    });
    EXPECT_NEAR(x.f32()[0], 13, 1e-3);
    EXPECT_NEAR(x.f32()[1], 11, 1e-3);
    EXPECT_NEAR(x.f32()[2], 12, 1e-3);
  }
}

}  // namespace
}  // namespace baize
