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

}  // namespace
}  // namespace baize
