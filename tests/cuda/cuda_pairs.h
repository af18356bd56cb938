// PairTest: the fixture of the tests that run the same ops on the device and on the reference and compare.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cuda/cuda_cases.h"

namespace baize::test {

/// Compares the device with the reference in one compute mode.
class PairTest : public testing::TestWithParam<Compute> {
 protected:
  static Backend& cuda() {
    static const std::unique_ptr<Backend> backend = make_cuda_backend(0);
    return *backend;
  }
  static Backend& ref() {
    static const std::unique_ptr<Backend> backend = make_ref_backend();
    return *backend;
  }

  Compute compute_ = GetParam();
  Precision precision_ = cuda().precision(compute_);
  bool exact_ = compute_ == Compute::kExact;
  double bound_ = exact_ ? 1e-10 : 1e-5;  // bf16 results alone: about 3e-6
  Pool device_{cuda()}, host_{ref()};

  struct Pair {
    Tensor device, host;
  };
  // Rounded to the device's type, so that both see the same values.
  Pair pair(const std::vector<float>& values, DType dtype, const Shape& shape) {
    const Tensor on_device = device_.floats(values, dtype, shape);
    return {on_device, host_.floats(device_.fetch(on_device), DType::kF32, shape)};
  }
  Pair act(const Shape& shape, float scale = 1) {
    return pair(normals(shape.elements(), scale), precision_.act, shape);
  }
  Pair f32(const Shape& shape) { return pair(normals(shape.elements()), DType::kF32, shape); }
  Pair poison(DType dtype, const Shape& shape) {
    return pair(std::vector<float>(static_cast<size_t>(shape.elements()), NAN), dtype, shape);
  }
  void expect_close(const Pair& p, double bound) {
    const double error = nmse(device_.fetch(p.device), host_.fetch(p.host));
    EXPECT_LE(error, bound);
    worst_ = std::max(worst_, error);
  }
  void TearDown() override { RecordProperty("worst_nmse", std::to_string(worst_)); }
  double worst_ = 0;

  struct Step {
    StepInput device, host;
    int64_t pages = 0;
  };
  Step step(std::span<const SeqCase> seqs, int32_t block = 16) {
    Step s;
    s.device = make_step(device_, seqs, block, s.pages);
    s.host = make_step(host_, seqs, block, s.pages);
    return s;
  }
  template <typename Body>
  void both(const Step& s, Body&& body) {
    run_step(ref(), compute_, s.host, [&](Ops& ops) { body(ops, false); });
    run_step(cuda(), compute_, s.device, [&](Ops& ops) { body(ops, true); });
  }
};

}  // namespace baize::test
