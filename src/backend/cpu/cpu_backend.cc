#include "backend/cpu/cpu_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/linear/registry.h"
#include "backend/cpu/roofs.h"
#include "backend/cpu/thread_pool.h"
#include "base/check.h"
#include "base/host_memory.h"

namespace baize {

namespace {

// "AMD EPYC 7763 64-Core Processor", where the system says it.
std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "CPU";
}

class CpuBackend : public Backend {
 public:
  CpuBackend(int threads, cpu::Isa isa) : isa_(isa), pool_(threads) {}

  std::string name() const override { return "cpu"; }
  Place place() const override { return {}; }
  bool has_invariant() const override { return true; }

  DeviceInfo info() const override {
    const HostMemory memory = host_memory();
    const int threads = pool_.size();
    return {fmt::format("{}, {} thread{}, {}", processor_name(), threads, threads == 1 ? "" : "s", to_string(isa_)),
            memory.total, memory.available};
  }

  Precision precision(Compute compute) const override {
    Precision precision;  // activations stay f32: they are small beside the weights
    if (compute != Compute::kExact) precision.kv = DType::kF16;
    return precision;
  }

  std::span<const LinearKernel* const> linear_kernels() const override { return cpu::linear_kernels(isa_); }

  Buffer allocate(int64_t bytes) override { return Buffer::host(bytes); }
  void upload(void* device, const void* host, int64_t bytes) override { copy(device, host, bytes); }
  void download(void* host, const void* device, int64_t bytes) override { copy(host, device, bytes); }
  void copy(void* to, const void* from, int64_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
  }

  void parallel_for(int64_t count, int64_t step, const std::function<void(int64_t, int64_t)>& body) override {
    // Pieces large enough to be worth handing out, small enough to balance.
    const int64_t pieces = int64_t{4} * pool_.size();
    const int64_t steps = (count + step - 1) / step;
    pool_.parallel_for(count, std::max<int64_t>(1, (steps + pieces - 1) / pieces) * step, body);
  }

  std::unique_ptr<Ops> make_ops(Compute compute, Arena arena) override {
    return std::make_unique<cpu::CpuOps>(precision(compute), std::move(arena), pool_, cpu::op_kernels(isa_),
                                         compute == Compute::kInvariant);
  }

  std::vector<Roof> measure_roofs() override { return cpu::measure_roofs(pool_, cpu::roof_kernels(isa_)); }

 private:
  cpu::Isa isa_;
  cpu::ThreadPool pool_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int threads, std::optional<cpu::Isa> isa) {
  const cpu::Isa chosen = isa ? *isa : cpu::chosen_isa();
  const auto usable = cpu::usable_isas();
  BAIZE_CHECK(std::find(usable.begin(), usable.end(), chosen) != usable.end());
  return std::make_unique<CpuBackend>(threads, chosen);
}

}  // namespace baize
