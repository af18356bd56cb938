#include "backend/ref/ref_backend.h"

#include <cstring>

#include "backend/ref/ref_ops.h"
#include "base/host_memory.h"

namespace baize {

namespace {

class RefBackend : public Backend {
 public:
  std::string name() const override { return "ref"; }
  Place place() const override { return {}; }
  bool has_invariant() const override { return true; }
  DeviceInfo info() const override {
    const HostMemory memory = host_memory();
    return {"scalar reference, 1 thread", memory.total, memory.available};
  }
  Precision precision(Compute) const override { return {}; }  // f32 throughout
  std::span<const LinearKernel* const> linear_kernels() const override { return ref::linear_kernels(); }

  Buffer allocate(int64_t bytes) override { return Buffer::host(bytes); }
  void upload(void* device, const void* host, int64_t bytes) override { copy(device, host, bytes); }
  void download(void* host, const void* device, int64_t bytes) override { copy(host, device, bytes); }
  void copy(void* to, const void* from, int64_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
  }
  void parallel_for(int64_t count, int64_t, const std::function<void(int64_t, int64_t)>& body) override {
    if (count > 0) body(0, count);
  }

  std::unique_ptr<Ops> make_ops(Compute compute, Arena arena) override {
    return std::make_unique<ref::RefOps>(precision(compute), std::move(arena));
  }

 private:
};

}  // namespace

std::unique_ptr<Backend> make_ref_backend() { return std::make_unique<RefBackend>(); }

}  // namespace baize
