// Routing and experts on the device against the reference, as a layer runs them: every size of item of the matrix
// units' kernel, experts that nobody or everybody chooses, odd sizes; and one recorded step that is replayed while the
// router's logits, and with them everybody's experts, change. Needs a GPU to run.
#include <gtest/gtest.h>

#include "cuda/cuda_pairs.h"

namespace baize {
namespace {

using namespace test;

struct LayerCase {
  int64_t rows, experts, top_k, k, ff;
  bool fused = false;
  Activation activation = Activation::kSilu;
  GgufType type = GgufType::kBF16;
};

class CudaExpertsTest : public PairTest {
 protected:
  struct Side {
    std::vector<Linear> gate, up, down;
  };
  Side sides_[2];  // host, device

  void add(std::vector<Linear> Side::* part, const QuantFormat& format, int64_t n, int64_t k, float alpha) {
    const std::vector<std::byte> bytes = random_weights(format, n, k);
    Linear on_gpu, on_host;
    on_gpu.shape = on_host.shape = {format, n, k};
    on_gpu.alpha = on_host.alpha = alpha;
    const Pack* pack = choose_kernels(cuda().linear_kernels(), compute_, on_gpu);
    choose_kernels(ref().linear_kernels(), compute_, on_host);
    std::vector<std::byte> packed = bytes;
    if (pack != nullptr) {
      packed.resize(static_cast<size_t>(pack->bytes(on_gpu.shape)));
      pack->repack(on_gpu.shape, bytes.data(), packed.data(), 0, n);
    }
    on_gpu.w = device_.put(packed);
    on_host.w = host_.put(bytes);
    (sides_[1].*part).push_back(on_gpu);
    (sides_[0].*part).push_back(on_host);
  }
  void make(const LayerCase& c) {
    sides_[0] = sides_[1] = {};
    const QuantFormat format = c.type == GgufType::kBF16 ? QuantFormat::plain(DType::kBF16) : QuantFormat::gguf(c.type);
    const float scale = 1 / std::sqrt(static_cast<float>(c.k));
    for (int64_t e = 0; e < c.experts; ++e) {
      if (!c.fused) add(&Side::gate, format, c.ff, c.k, scale);
      add(&Side::up, format, c.fused ? 2 * c.ff : c.ff, c.k, scale);
      add(&Side::down, format, c.k, c.ff, 0.5f);
    }
  }
  // 0: any experts; 1: expert 1 above all others, for all rows; 2: none of odd number.
  std::vector<float> logits(const LayerCase& c, int kind) {
    std::vector<float> values = normals(c.rows * c.experts, 2);
    for (size_t i = 0; i < values.size(); ++i) {
      const auto expert = static_cast<int64_t>(i) % c.experts;
      if (kind == 1 && expert == std::min<int64_t>(1, c.experts - 1)) values[i] = 30;
      if (kind == 2 && expert % 2 == 1) values[i] = -30;
    }
    return values;
  }
  void layer(Ops& ops, const Side& side, const LayerCase& c, const Tensor& x, const Tensor& chosen, const Tensor& out) {
    RouteArgs route;
    route.top_k = c.top_k;
    route.renormalise = true;
    const Routing routing{ops.temp(DType::kI32, {c.rows, c.top_k}), ops.temp(DType::kF32, {c.rows, c.top_k})};
    ops.route(route, chosen, routing);
    ops.experts({side.gate, side.up, side.down, {.kind = c.activation}}, x, routing, out);
  }
};

TEST_P(CudaExpertsTest, AnyRoutingInOneRecordedStep) {
  const std::vector<LayerCase> cases = {
      {1, 8, 2, 64, 40},                                  // items of 8 pairs
      {1, 128, 8, 512, 192},                              //
      {9, 60, 6, 200, 72, false, Activation::kGeluTanh},  //
      {40, 16, 2, 328, 136},                              // of 16
      {120, 8, 1, 136, 264, true},                        // of 32
      {101, 8, 2, 128, 64, false, Activation::kRelu},     // of 64
      {97, 2, 2, 264, 200},                               // of 128
      {300, 4, 1, 64, 96, true},                          //
      {600, 3, 3, 72, 56},                                //
      {30, 6, 2, 256, 256, false, Activation::kSilu, GgufType::kQ4_K},
  };
  for (const LayerCase& c : cases) {
    SCOPED_TRACE("rows " + std::to_string(c.rows) + " experts " + std::to_string(c.experts));
    make(c);
    const std::vector<SeqCase> rows = {{0, static_cast<int32_t>(c.rows)}};
    const Step s = step(rows);
    const Pair x = act({c.rows, c.k}), out = poison(precision_.act, {c.rows, c.k});
    const Pair chosen = act({c.rows, c.experts});
    const auto dry = cuda().make_ops(compute_, Arena());
    dry->begin_step(s.device);
    layer(*dry, sides_[1], c, x.device, chosen.device, out.device);
    dry->end_step();
    const auto ops = cuda().make_ops(compute_, Arena(cuda().allocate(dry->cost().arena_bytes)));
    for (int repeat = 0; repeat < 5; ++repeat) {  // directly, recorded, replayed three times
      const Pair next = pair(logits(c, repeat % 3), precision_.act, {c.rows, c.experts});
      cuda().copy(chosen.device.data, next.device.data, next.device.bytes());
      const std::vector<float> nothing(static_cast<size_t>(c.rows * c.k), NAN);
      const Pair poisoned = pair(nothing, precision_.act, out.device.shape);
      cuda().copy(out.device.data, poisoned.device.data, poisoned.device.bytes());
      ops->begin_step(s.device);
      layer(*ops, sides_[1], c, x.device, chosen.device, out.device);
      ops->end_step();
      run_step(ref(), compute_, s.host, [&](Ops& host) { layer(host, sides_[0], c, x.host, next.host, out.host); });
      SCOPED_TRACE("repeat " + std::to_string(repeat));
      expect_close(out, exact_ ? 1e-9 : 1e-4);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Exact, CudaExpertsTest, testing::Values(Compute::kExact));
INSTANTIATE_TEST_SUITE_P(Auto, CudaExpertsTest, testing::Values(Compute::kAuto));

}  // namespace
}  // namespace baize
