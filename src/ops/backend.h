// Backend: one device's memory, kernels and Ops. Only apps/ names a concrete one. Lives for the whole program; its
// methods may be called from any thread, its Ops objects from one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ops/linear.h"
#include "ops/ops.h"
#include "tensor/buffer.h"

namespace baize {

struct DeviceInfo {
  std::string name;          // "AMD EPYC, 2 threads, avx2", ...
  int64_t memory_bytes = 0;  // total
  int64_t free_bytes = 0;    // at the time of asking, without own_bytes
  int64_t own_bytes = 0;     // what the backend holds back for itself: kernels, graphs, libraries
};

/// A limit of the hardware, measured. Names are "read" (memory), "f32", "int8": what `bench` compares speeds with.
struct Roof {
  std::string name;
  double value = 0;
  std::string unit;  // "GB/s", "GFLOP/s", "GOP/s"
};

/// What an engine on the device does where the user did not say.
struct EngineHabits {
  int64_t seqs = 64;        // that run at once
  int64_t step_rows = 512;  // tokens of a step, at most
  int64_t cache_tokens_per_seq = 512;
  bool warms_up = false;  // measures steps of several sizes first, and takes those of at most about step_seconds
  double step_seconds = 0.02;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string name() const = 0;  // "ref", "cpu", "cuda"
  virtual Place place() const = 0;
  virtual DeviceInfo info() const = 0;
  virtual Precision precision(Compute compute) const = 0;
  virtual EngineHabits habits() const { return {}; }
  /// Whether it can compute as Compute::kInvariant asks.
  virtual bool has_invariant() const { return false; }
  virtual std::span<const LinearKernel* const> linear_kernels() const = 0;

  /// Memory of this device, zeroed. Throws Error(kResource).
  virtual Buffer allocate(int64_t bytes) = 0;
  /// Copies between host memory and this device's; returns when done.
  virtual void upload(void* device, const void* host, int64_t bytes) = 0;
  virtual void download(void* host, const void* device, int64_t bytes) = 0;
  /// Copies within this device's memory, ordered with the steps before and after. The body goes through the host.
  virtual void copy(void* to, const void* from, int64_t bytes) {
    std::vector<std::byte> staging(static_cast<size_t>(bytes));
    download(staging.data(), from, bytes);
    upload(to, staging.data(), bytes);
  }
  /// Runs body(begin, end) over parts of [0, count), cut at multiples of `step`, on the host threads; for load-time
  /// work.
  virtual void parallel_for(int64_t count, int64_t step, const std::function<void(int64_t, int64_t)>& body) = 0;

  /// A counting `arena` makes the Ops dry.
  virtual std::unique_ptr<Ops> make_ops(Compute compute, Arena arena) = 0;

  /// Takes about a second; empty where nobody needs it. No Ops may run meanwhile.
  virtual std::vector<Roof> measure_roofs() { return {}; }
};

}  // namespace baize
