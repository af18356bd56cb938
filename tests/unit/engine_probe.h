// ProbeBackend: the scalar reference with a probe at every step: tests can hold the engine between two steps, count the
// rows it computes, see what it samples with, and spoil logits.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "backend/ref/ref_backend.h"
#include "backend/ref/ref_ops.h"

namespace baize::test {

struct Probe {
  std::mutex mutex;
  std::condition_variable changed;
  int64_t steps_allowed = std::numeric_limits<int64_t>::max();
  int64_t steps = 0;                       // begun
  std::vector<int64_t> rows;               // of every step
  std::vector<SampleParams> draws;         // of every draw
  std::vector<std::vector<Token>> recent;  // history of every draw
  int64_t nan_at = -1;                     // the draw whose logits become NaN
  Token no_memory_for = -1;                // steps with this token find no memory

  void begin_step(int64_t step_rows) {
    std::unique_lock lock(mutex);
    ++steps;
    rows.push_back(step_rows);
    changed.notify_all();
    changed.wait(lock, [&] { return steps <= steps_allowed; });
  }
  /// Lets the engine begin `count` steps in all; the next one waits.
  void allow(int64_t count) {
    const std::lock_guard lock(mutex);
    steps_allowed = count;
    changed.notify_all();
  }
  /// Waits until the engine has begun `count` steps.
  void wait_for_step(int64_t count) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return steps >= count; });
  }
  int64_t rows_computed() {
    const std::lock_guard lock(mutex);
    int64_t sum = 0;
    for (const int64_t r : rows) sum += r;
    return sum;
  }
};

class ProbeOps : public ref::RefOps {
 public:
  ProbeOps(Precision precision, Arena arena, Probe& probe) : RefOps(precision, std::move(arena)), probe_(probe) {}

 protected:
  void do_begin_step() override {
    if (dry()) return;
    probe_.begin_step(input().rows);
    const auto* ids = input().ids.as<const int32_t>();
    if (std::count(ids, ids + input().rows, probe_.no_memory_for) > 0) throw std::bad_alloc();
  }
  void do_sample(const SampleArgs& args, const Tensor& logits) override {
    {
      const std::lock_guard lock(probe_.mutex);
      for (size_t r = 0; r < args.rows.size(); ++r) {
        const SampleRow& row = args.rows[r];
        if (static_cast<int64_t>(probe_.draws.size()) == probe_.nan_at) {
          *logits.rows(static_cast<int64_t>(r), 1).as<float>() = std::numeric_limits<float>::quiet_NaN();
        }
        probe_.draws.push_back(row.params);
        probe_.recent.emplace_back(row.history.begin(), row.history.end());
      }
    }
    RefOps::do_sample(args, logits);
  }

 private:
  Probe& probe_;
};

class ProbeBackend : public Backend {
 public:
  explicit ProbeBackend(Probe& probe) : probe_(probe) {}

  std::string name() const override { return inner_->name(); }
  Place place() const override { return inner_->place(); }
  DeviceInfo info() const override {
    DeviceInfo info = inner_->info();
    if (free_bytes >= 0) info.free_bytes = free_bytes;
    return info;
  }
  Precision precision(Compute compute) const override { return inner_->precision(compute); }
  std::span<const LinearKernel* const> linear_kernels() const override { return inner_->linear_kernels(); }
  Buffer allocate(int64_t bytes) override { return inner_->allocate(bytes); }
  void upload(void* device, const void* host, int64_t bytes) override { inner_->upload(device, host, bytes); }
  void download(void* host, const void* device, int64_t bytes) override { inner_->download(host, device, bytes); }
  void parallel_for(int64_t count, int64_t step, const std::function<void(int64_t, int64_t)>& body) override {
    inner_->parallel_for(count, step, body);
  }
  std::unique_ptr<Ops> make_ops(Compute compute, Arena arena) override {
    return std::make_unique<ProbeOps>(precision(compute), std::move(arena), probe_);
  }

  int64_t free_bytes = -1;  // what info() says is free; -1: the truth

 private:
  Probe& probe_;
  std::unique_ptr<Backend> inner_ = make_ref_backend();
};

}  // namespace baize::test
