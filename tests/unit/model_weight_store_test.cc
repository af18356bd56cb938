// WeightStore on a device: what a dry store counted is taken as one piece, and dummies cross the bus once a period.
#include <gtest/gtest.h>

#include <cstring>

#include "formats/dummy_weights.h"
#include "model/weight_store.h"

namespace baize {
namespace {

// Memory of a device that counts what it is asked for; it lies on the host.
class FakeDevice : public Backend {
 public:
  std::string name() const override { return "fake"; }
  Place place() const override { return {Place::kCuda, 0}; }
  DeviceInfo info() const override { return {.name = "fake"}; }
  Precision precision(Compute) const override { return {}; }
  std::span<const LinearKernel* const> linear_kernels() const override { return {}; }
  Buffer allocate(int64_t bytes) override {
    ++allocations;
    allocated += bytes;
    return Buffer::host(bytes);
  }
  void upload(void* device, const void* host, int64_t bytes) override {
    uploaded += bytes;
    std::memcpy(device, host, static_cast<size_t>(bytes));
  }
  void download(void* host, const void* device, int64_t bytes) override {
    std::memcpy(host, device, static_cast<size_t>(bytes));
  }
  void copy(void* to, const void* from, int64_t bytes) override { std::memcpy(to, from, static_cast<size_t>(bytes)); }
  void parallel_for(int64_t count, int64_t, const std::function<void(int64_t, int64_t)>& body) override {
    body(0, count);
  }
  std::unique_ptr<Ops> make_ops(Compute, Arena) override { return nullptr; }

  int64_t allocations = 0, allocated = 0, uploaded = 0;
};

SourceTensor matrix_of(DummyWeights& weights, int64_t n, int64_t k) {
  const QuantFormat format = QuantFormat::plain(DType::kBF16);
  const DummyWeights::Bytes bytes = weights.bytes(format, false, n * format.row_bytes(k));
  return {"w", format, {n, k}, bytes.span, nullptr, bytes.period};
}

TEST(ModelWeightStore, WhatWasCountedIsTakenAtOnce) {
  FakeDevice device;
  DummyWeights weights("bf16");
  const std::vector<SourceTensor> matrices = {matrix_of(weights, 3, 5), matrix_of(weights, 100, 7),
                                              matrix_of(weights, 1, 1)};
  const std::vector<float> norm = {1, 2, 3};
  const auto fill = [&](WeightStore& store) {
    std::vector<Tensor> placed = {store.small(norm)};
    for (const SourceTensor& matrix : matrices) placed.push_back(store.matrix(matrix, nullptr).w);
    return placed;
  };
  WeightStore dry(device, true);
  fill(dry);
  EXPECT_EQ(device.allocations, 0);

  WeightStore store(device, false, dry.resident_bytes());
  const std::vector<Tensor> placed = fill(store);
  EXPECT_EQ(device.allocations, 1);
  EXPECT_EQ(device.allocated, dry.resident_bytes());
  EXPECT_EQ(std::memcmp(placed[0].data, norm.data(), sizeof(float) * norm.size()), 0);
  for (size_t i = 0; i < matrices.size(); ++i) {
    EXPECT_EQ(std::memcmp(placed[i + 1].data, matrices[i].bytes.data(), matrices[i].bytes.size()), 0) << i;
  }
}

TEST(ModelWeightStore, MoreThanWasCountedStillFits) {
  FakeDevice device;
  DummyWeights weights("bf16");
  const SourceTensor matrix = matrix_of(weights, 512, 8);
  WeightStore store(device, false, 256);
  const Tensor placed = store.matrix(matrix, nullptr).w;
  EXPECT_EQ(device.allocations, 2);
  EXPECT_EQ(std::memcmp(placed.data, matrix.bytes.data(), matrix.bytes.size()), 0);
}

TEST(ModelWeightStore, DummiesCrossTheBusOnceAPeriod) {
  FakeDevice device;
  DummyWeights weights("bf16");
  const int64_t period = weights.bytes(QuantFormat::plain(DType::kBF16), false, 2).period;
  const SourceTensor matrix = matrix_of(weights, 5 * period / 2 / 4096 + 1, 2048);
  WeightStore store(device, false);
  const Tensor placed = store.matrix(matrix, nullptr).w;
  EXPECT_EQ(device.uploaded, period);
  EXPECT_EQ(std::memcmp(placed.data, matrix.bytes.data(), matrix.bytes.size()), 0);
}

}  // namespace
}  // namespace baize
