#include "backend/cuda/tensor_map.h"

#include <array>

#include "backend/cuda/check.h"

namespace baize::cuda {

CUtensorMap tensor_map(void* data, std::span<const int64_t> sizes, std::span<const int64_t> strides,
                       std::span<const int64_t> box) {
  using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                              const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const Encode encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult status{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &status),
          "find the driver's tensor maps");
    return reinterpret_cast<Encode>(found);
  }();
  std::array<cuuint64_t, 4> size{}, bytes{};
  std::array<cuuint32_t, 4> part{}, step{};
  for (size_t i = 0; i < sizes.size(); ++i) {
    size[i] = static_cast<cuuint64_t>(sizes[i]);
    part[i] = static_cast<cuuint32_t>(box[i]);
    step[i] = 1;
    if (i > 0) bytes[i - 1] = static_cast<cuuint64_t>(strides[i - 1]) * 2;
  }
  CUtensorMap map{};
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(sizes.size()), data, size.data(),
             bytes.data(), part.data(), step.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) unsupported("a tensor's layout cannot be described to the GPU's copy engine");
  return map;
}

}  // namespace baize::cuda
