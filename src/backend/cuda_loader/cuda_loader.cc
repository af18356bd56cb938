#include "backend/cuda_loader/cuda_loader.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"

namespace baize {

namespace {

constexpr const char* kLibrary = "libbaize_cuda.so";
constexpr const char* kEntry = "baize_make_cuda_backend";

std::filesystem::path find_library() {
  if (const char* given = std::getenv("BAIZE_CUDA_LIBRARY"); given != nullptr && *given != '\0') return given;
  std::error_code ignored;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const auto& path : {folder / kLibrary, folder / "../lib/baize" / kLibrary}) {
    if (std::filesystem::exists(path, ignored)) return path;
  }
  fail(ErrorKind::kUnsupported, "this build of Baize has no CUDA backend ({} is neither in {} nor in ../lib/baize)",
       kLibrary, folder.string());
}

// Asked first: the backend brings libraries of hundreds of megabytes, which a machine without a GPU need not map.
void check_driver() {
  if (dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) != nullptr) return;  // stays open, as CUDA wants it
  fail(ErrorKind::kUnsupported, "no NVIDIA driver here ({}): install driver 580 or newer", dlerror());
}

}  // namespace

std::unique_ptr<Backend> load_cuda_backend(int device) {
  const std::string path = find_library().string();
  check_driver();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) fail(ErrorKind::kUnsupported, "cannot open the CUDA backend: {}", dlerror());
  using Make = Backend* (*)(int);
  const auto make = reinterpret_cast<Make>(dlsym(library, kEntry));
  if (make == nullptr) fail(ErrorKind::kUnsupported, "{} is not a CUDA backend of Baize: it lacks {}", path, kEntry);
  return std::unique_ptr<Backend>(make(device));
}

}  // namespace baize
