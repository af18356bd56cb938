// The ops that few models need, as HostOps defines them, against values worked out by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/ref/ref_backend.h"
#include "unit/op_step.h"

namespace baize {
namespace {

using namespace op_test;

HostTensor tensor(const Shape& shape, const std::vector<float>& values) {
  HostTensor t(DType::kF32, shape);
  std::copy(values.begin(), values.end(), t.f32());
  return t;
}

// Rows of one sequence from position `first` on, whose state lies in page 1 of two.
struct StateStep {
  StateStep(int32_t rows, int32_t first) : ids(int_tensor(std::vector<int32_t>(static_cast<size_t>(rows), 0))) {
    for (int32_t i = 0; i < rows; ++i) positions.i32()[i] = first + i;
    starts.i32()[1] = rows;
    input.rows = rows;
    input.seqs = 1;
    input.ids = ids;
    input.positions = positions.view().rows(0, rows);
    input.q_start = starts;
    input.block_tables[0] = table;
  }
  HostTensor ids, positions = HostTensor(DType::kI32, {8}), starts = int_tensor({0, 0});
  HostTensor table = HostTensor(DType::kI32, {1, 1});
  StepInput input;
};

class RareOps : public testing::Test {
 protected:
  // `values` floats of state a page; what is not written must not be read.
  KvView state(int64_t values) {
    memory_ = std::make_unique<HostTensor>(DType::kF32, Shape{2, values});
    std::fill_n(memory_->f32(), 2 * values, NAN);
    KvView view;
    view.k = *memory_;
    return view;
  }
  void run(int32_t rows, int32_t first, const std::function<void(Ops&)>& body) {
    StateStep step(rows, first);
    step.table.i32()[0] = 1;
    run_step(*ref_, step.input, body);
  }
  std::unique_ptr<Backend> ref_ = make_ref_backend();
  std::unique_ptr<HostTensor> memory_;
};

TEST_F(RareOps, LayerNormSubtractsTheMean) {
  const HostTensor x = tensor({1, 2}, {1, 3}), weight = tensor({2}, {2, 4}), bias = tensor({2}, {1, -1});
  const HostTensor out(DType::kF32, {1, 2});
  Norm norm;
  norm.weight = weight;
  norm.bias = bias;
  norm.center = true;
  run(1, 0, [&](Ops& ops) { ops.norm(x, norm, out); });
  EXPECT_FLOAT_EQ(out.f32()[0], -1);
  EXPECT_FLOAT_EQ(out.f32()[1], 3);
}

TEST_F(RareOps, GatesServeStretchesOfColumns) {
  const HostTensor x = tensor({1, 4}, {1, 2, 3, 4}), gate = tensor({1, 2}, {0, 100});
  run(1, 0, [&](Ops& ops) { ops.gate(x, gate, Activation::kSigmoid); });
  EXPECT_FLOAT_EQ(x.f32()[1], 1);
  EXPECT_FLOAT_EQ(x.f32()[3], 4);
}

TEST_F(RareOps, MagnitudesMatchAboveAFloor) {
  const HostTensor x = tensor({2, 2}, {1, -1, 0.5, 0.5}), like = tensor({2, 2}, {3, -3, 6, 6});
  run(2, 0, [&](Ops& ops) { ops.match_rms(x, like, 1); });
  EXPECT_FLOAT_EQ(x.f32()[1], -3);
  EXPECT_FLOAT_EQ(x.f32()[2], 3);  // not 6: a mean square of 1/4 counts as 1
}

TEST_F(RareOps, StreamsMixRowByRow) {
  // Two streams of two values become three; the second row's weights are others.
  const HostTensor x = tensor({2, 4}, {1, 2, 10, 20, 1, 2, 10, 20});
  const HostTensor weights = tensor({2, 6}, {1, 0, 0, 1, 1, 1, 2, 0, 0, 0, 0, -1}), out(DType::kF32, {2, 6});
  run(2, 0, [&](Ops& ops) { ops.mix_streams(x, 2, weights, out); });
  const std::vector<float> want = {1, 2, 10, 20, 11, 22, 2, 4, 0, 0, -10, -20};
  for (size_t i = 0; i < want.size(); ++i) EXPECT_FLOAT_EQ(out.f32()[i], want[i]) << i;
}

TEST_F(RareOps, ExpertsComeFromTheBestGroup) {
  const HostTensor logits = tensor({1, 4}, {5, -5, 1, 1}), weights(DType::kF32, {1, 2}), ids(DType::kI32, {1, 2});
  RouteArgs args;
  args.score = RouteArgs::Score::kSigmoid;
  args.top_k = args.groups = 2;
  args.renormalise = true;
  run(1, 0, [&](Ops& ops) { ops.route(args, logits, {ids, weights}); });
  EXPECT_EQ(ids.i32()[0], 2);  // two of 0.73 rank above 0.99 and 0.01
  EXPECT_EQ(ids.i32()[1], 3);
  EXPECT_FLOAT_EQ(weights.f32()[0], 0.5f);
  args.group_by_two = false;
  run(1, 0, [&](Ops& ops) { ops.route(args, logits, {ids, weights}); });
  EXPECT_EQ(ids.i32()[0], 0);
  EXPECT_EQ(ids.i32()[1], 1);
}

TEST_F(RareOps, ConvolutionGoesOnWhereItStopped) {
  const HostTensor weight = tensor({2}, {10, 1});
  const KvView view = state(1);
  ConvArgs args;
  args.width = 2;
  args.weight = weight;
  const HostTensor x = tensor({3, 1}, {1, 2, 3}), y = tensor({1, 1}, {4});
  run(3, 0, [&](Ops& ops) { ops.causal_conv(args, x, view); });
  run(1, 3, [&](Ops& ops) { ops.causal_conv(args, y, view); });
  EXPECT_FLOAT_EQ(x.f32()[0], 1);
  EXPECT_FLOAT_EQ(x.f32()[1], 12);
  EXPECT_FLOAT_EQ(x.f32()[2], 23);
  EXPECT_FLOAT_EQ(y.f32()[0], 34);
}

// With tables that hold the very decays, blocks give what the recurrence gives; other tables show where they act.
TEST_F(RareOps, LightningAttentionInBlocks) {
  const HostTensor x = tensor({5, 1}, {1, 2, 3, 4, 5}), rate = tensor({1}, {0.5f});
  const HostTensor near = tensor({2}, {1, 0.5f}), enter = tensor({2}, {0.5f, 0.25f}), leave = tensor({2}, {0.5f, 1});
  const HostTensor plain(DType::kF32, {5, 1}), blocks(DType::kF32, {5, 1}), other(DType::kF32, {5, 1});
  RecurrenceArgs args;
  args.heads = args.key_heads = args.key_dim = args.value_dim = 1;
  args.rate = rate;
  KvView view = state(5);
  run(5, 0, [&](Ops& ops) { ops.recurrence(args, {x, x, x, {}, {}}, view, plain); });
  args.block = 2;
  args.near = near;
  args.enter = enter;
  args.leave = leave;
  const auto part = [](const HostTensor& t, int64_t begin, int64_t count) { return t.view().rows(begin, count); };
  const auto run_blocks = [&](const HostTensor& out) {
    view = state(5);
    for (const auto& [begin, count] : {std::pair(0, 1), std::pair(1, 3), std::pair(4, 1)}) {
      const Tensor in = part(x, begin, count), y = part(out, begin, count);
      run(count, begin, [&](Ops& ops) { ops.recurrence(args, {in, in, in, {}, {}}, view, y); });
    }
  };
  run_blocks(blocks);
  for (int i = 0; i < 5; ++i) EXPECT_FLOAT_EQ(blocks.f32()[i], plain.f32()[i]) << i;
  near.f32()[1] = leave.f32()[0] = 0;  // a block's first token counts for itself only
  run_blocks(other);
  EXPECT_FLOAT_EQ(other.f32()[1], 2 * 4);
  EXPECT_FLOAT_EQ(other.f32()[2], 3 * (0.5f * 4 + 9));
}

TEST_F(RareOps, DeltaRuleWritesTheDifference) {
  const HostTensor ones = tensor({2, 1}, {1, 1}), v = tensor({2, 1}, {2, 2}), beta = tensor({2, 1}, {0.5f, 0.5f});
  const HostTensor decay = tensor({2, 1}, {1, 0.5f}), out(DType::kF32, {2, 1});
  const KvView view = state(1);
  RecurrenceArgs args;
  args.heads = args.key_heads = args.key_dim = args.value_dim = 1;
  args.delta = true;
  run(2, 0, [&](Ops& ops) { ops.recurrence(args, {ones, ones, v, decay, beta}, view, out); });
  EXPECT_FLOAT_EQ(out.f32()[0], 1);      // 0.5 * (2 - 0)
  EXPECT_FLOAT_EQ(out.f32()[1], 1.25f);  // 0.5 * 1 + 0.5 * (2 - 0.5)
}

// All keys score 0: what they add, and whether they are kept, decides.
TEST_F(RareOps, KeysOfTheGreatestBiasAreSeen) {
  const HostTensor k = tensor({1, 4, 1, 1}, {0, 0, 0, 0}), v = tensor({1, 4, 1, 1}, {1, 2, 4, 8});
  const HostTensor bias = tensor({1, 4, 1, 1}, {0, std::log(3.0f), -5, 0}), q = tensor({1, 1, 1}, {7});
  const HostTensor out(DType::kF32, {1, 1, 1}), seq = int_tensor({0}), length = int_tensor({4});
  StateStep step(1, 3);
  step.input.row_seq = seq;
  step.input.kv_len = length;
  step.input.max_kv_len = 4;
  KvView view;
  view.k = k;
  view.v = v;
  AttnArgs args;
  args.shape = {1, 1, 1};
  args.key_bias.k = bias;
  args.keep = 2;
  run_step(*ref_, step.input, [&](Ops& ops) { ops.attention(args, q, view, out); });
  EXPECT_FLOAT_EQ(out.f32()[0], (1 + 3 * 2) / 4.0f);  // of equal ones the first
  args.keep = 0;
  run_step(*ref_, step.input, [&](Ops& ops) { ops.attention(args, q, view, out); });
  EXPECT_FLOAT_EQ(out.f32()[0], (1 + 3 * 2 + std::exp(-5.0f) * 4 + 8) / (5 + std::exp(-5.0f)));
}

}  // namespace
}  // namespace baize
