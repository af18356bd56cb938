#include "backend/cuda/cuda_backend.h"

#include <cuda_runtime.h>

#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "backend/cuda/check.h"
#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/linear_kernels.h"
#include "base/error.h"

namespace baize {

namespace {

using cuda::check;

constexpr int64_t kStagingBytes = int64_t{4} << 20;  // pinned memory through which small uploads go
constexpr int64_t kSmallUpload = int64_t{256} << 10;
constexpr int64_t kOwnBytes = int64_t{1} << 30;  // for what is not planned: kernels, graphs, the library's workspace
constexpr int kOldestMajor = 9;                  // compute capability that the kernels are built for

class CudaBackend : public Backend {
 public:
  explicit CudaBackend(int device) : device_(device) {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaErrorInsufficientDriver) {
      fail(ErrorKind::kUnsupported, "the NVIDIA driver is too old for CUDA 13: install driver 580 or newer");
    }
    if (status != cudaSuccess || count == 0) {
      fail(ErrorKind::kUnsupported, "no NVIDIA GPU found ({}): use --backend cpu", cudaGetErrorString(status));
    }
    if (device < 0 || device >= count) {
      fail(ErrorKind::kInvalidArgument, "there is no GPU {}: this machine has {}, counted from 0", device, count);
    }
    check(cudaSetDevice(device), "choose the GPU");
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, device), "read the GPU's properties");
    if (properties.major != kOldestMajor) {
      fail(ErrorKind::kUnsupported, "{} has compute capability {}.{}; this build of the CUDA backend is for 9.0",
           properties.name, properties.major, properties.minor);
    }
    name_ = properties.name;
    sms_ = properties.multiProcessorCount;
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "make a stream");
    check(cudaMallocHost(&staging_, kStagingBytes), "hold pinned memory");
  }
  ~CudaBackend() override {
    cudaStreamSynchronize(stream_);
    cudaFreeHost(staging_);
    cudaStreamDestroy(stream_);
  }
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  std::string name() const override { return "cuda"; }
  Place place() const override { return {Place::kCuda, static_cast<int16_t>(device_)}; }
  DeviceInfo info() const override {
    size_t available = 0, total = 0;
    check(cudaSetDevice(device_), "choose the GPU");
    check(cudaMemGetInfo(&available, &total), "read the GPU's memory");
    return {name_, static_cast<int64_t>(total), std::max<int64_t>(static_cast<int64_t>(available) - kOwnBytes, 0),
            kOwnBytes};
  }
  EngineHabits habits() const override {
    return {.seqs = 256, .step_rows = 2048, .cache_tokens_per_seq = 2048, .warms_up = true};
  }
  Precision precision(Compute compute) const override {
    if (compute == Compute::kExact) return {};
    return {DType::kBF16, DType::kF32, DType::kBF16};
  }
  std::span<const LinearKernel* const> linear_kernels() const override { return cuda::linear_kernels(); }

  Buffer allocate(int64_t bytes) override {
    check(cudaSetDevice(device_), "choose the GPU");
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, static_cast<size_t>(std::max<int64_t>(bytes, 1)));
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      fail(ErrorKind::kResource, "the GPU has no {} bytes of free memory", bytes);
    }
    check(status, "allocate memory");
    Buffer buffer(data, bytes, place(), [](void* p) { cudaFree(p); });
    check(cudaMemsetAsync(data, 0, static_cast<size_t>(bytes), stream_), "clear memory");
    return buffer;
  }

  // Small uploads are copied into pinned memory and ordered on the stream: done as far as the caller can see.
  void upload(void* device, const void* host, int64_t bytes) override {
    if (bytes <= 0) return;
    check(cudaSetDevice(device_), "choose the GPU");
    const std::lock_guard lock(mutex_);
    const void* from = host;
    if (bytes <= kSmallUpload) {
      if (staged_ + bytes > kStagingBytes) {
        check(cudaStreamSynchronize(stream_), "upload");
        staged_ = 0;
      }
      from = std::memcpy(static_cast<char*>(staging_) + staged_, host, static_cast<size_t>(bytes));
      staged_ += (bytes + 255) / 256 * 256;
    }
    check(cudaMemcpyAsync(device, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_), "upload");
    if (from == host) check(cudaStreamSynchronize(stream_), "upload");
  }

  void download(void* host, const void* device, int64_t bytes) override {
    if (bytes <= 0) return;
    check(cudaSetDevice(device_), "choose the GPU");
    check(cudaMemcpyAsync(host, device, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_), "download");
    check(cudaStreamSynchronize(stream_), "download");
  }

  void copy(void* to, const void* from, int64_t bytes) override {
    if (bytes <= 0) return;
    check(cudaSetDevice(device_), "choose the GPU");
    check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream_), "copy");
  }

  void parallel_for(int64_t count, int64_t step, const std::function<void(int64_t, int64_t)>& body) override {
    const auto workers = static_cast<int64_t>(std::max(1u, std::thread::hardware_concurrency()));
    const int64_t steps = (count + step - 1) / step;
    const int64_t each = (steps + workers - 1) / workers * step;
    std::vector<std::jthread> threads;
    for (int64_t begin = each; begin < count; begin += each) {
      threads.emplace_back([&body, begin, end = std::min(begin + each, count)] { body(begin, end); });
    }
    if (count > 0) body(0, std::min(each, count));
  }

  std::unique_ptr<Ops> make_ops(Compute compute, Arena arena) override {
    check(cudaSetDevice(device_), "choose the GPU");
    return std::make_unique<cuda::CudaOps>(precision(compute), std::move(arena), stream_, sms_);
  }

 private:
  int device_;
  int sms_ = 0;
  std::string name_;
  cudaStream_t stream_ = nullptr;
  std::mutex mutex_;  // guards the staging memory
  void* staging_ = nullptr;
  int64_t staged_ = 0;
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int device) { return std::make_unique<CudaBackend>(device); }

}  // namespace baize

// What backend/cuda_loader looks up. The caller owns the backend; throws baize::Error as make_cuda_backend does.
extern "C" __attribute__((visibility("default"))) baize::Backend* baize_make_cuda_backend(int device) {
  return baize::make_cuda_backend(device).release();
}
