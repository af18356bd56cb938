// Products of 1 to 16 rows with GGUF blocks. The rows are quantised to 8 bits with one scale for 16 values; a lane
// takes an item of 32 weights as two runs of 16, multiplies in integers (dp4a) and scales the two sums. Types whose
// blocks are not multiples of 16 bytes are read from the planar layout.
#include "backend/cuda/blocks.h"
#include "backend/cuda/check.h"
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/gemv.cuh"
#include "backend/cuda/kernels/items.cuh"

namespace baize::cuda {

namespace {

constexpr int kWarps = 8;
// The quantised rows: int8 [m, k], then {scale, scale * sum} [m, k / 16].
struct Quantized {
  const int8_t* q;
  const float2* scales;
  int k, rows;
};

Quantized quantized(const void* memory, int rows, int k) {
  const auto* q = static_cast<const int8_t*>(memory);
  return {q, reinterpret_cast<const float2*>(q + align16(static_cast<int64_t>(rows) * k)), k, rows};
}

// One thread a run.
__global__ void __launch_bounds__(128) quantize_kernel(Mat x, int8_t* q, float2* scales) {
  pdl_launch();
  pdl_wait();
  const int runs = x.cols / kRun;
  const int run = blockIdx.x * 128 + threadIdx.x;
  if (run >= runs) return;
  const int64_t row = blockIdx.y;
  float v[2][8];
  load8(x.data, x.dtype, row * x.stride + run * kRun, v[0]);
  load8(x.data, x.dtype, row * x.stride + run * kRun + 8, v[1]);
  float top = 0;
#pragma unroll
  for (int i = 0; i < kRun; ++i) top = fmaxf(top, fabsf(v[i / 8][i % 8]));
  const float inverse = top > 0 ? 127.0f / top : 0.0f;
  int sum = 0;
  uint32_t words[4] = {};
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    const int n = __float2int_rn(v[i / 8][i % 8] * inverse);
    sum += n;
    words[i / 4] |= static_cast<uint32_t>(n & 255) << i % 4 * 8;
  }
  const float scale = top / 127.0f;
  *reinterpret_cast<uint4*>(q + row * x.cols + run * kRun) = make_uint4(words[0], words[1], words[2], words[3]);
  scales[row * runs + run] = make_float2(scale, scale * static_cast<float>(sum));
}

// One warp a row of weights; kRows rows of x. The items of a batch are loaded before any is used.
template <GgufType kType, int kRows>
__global__ void __launch_bounds__(kWarps * 32)
    gemv_blocks_kernel(GemvPart part, int64_t row_bytes, Quantized x, float softcap, int row0) {
  constexpr int kBatch = kRows <= 2 ? 4 : 2;
  pdl_launch();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int column = blockIdx.x * kWarps + warp;
  if (column >= part.n) return;
  const uint8_t* row = part.w + column * row_bytes;
  const int items = x.k / 32;  // the last unit may lack some
  Item batch[kBatch];
  const auto fetch = [&](int first) {
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int item = min(first + j * 32, items - 1);
      batch[j] = load_item<kType, false>(row + static_cast<int64_t>(item / 32) * kItemUnitBytes<kType>, item % 32);
      batch[j].at[0] += item / 32 * kUnitWeights;
      batch[j].at[1] += item / 32 * kUnitWeights;
    }
  };
  fetch(lane);
  pdl_wait();
  float sum[kRows] = {};
  for (int first = lane; first < items; first += kBatch * 32) {
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      if (first + j * 32 >= items) break;
      const Item& item = batch[j];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int xr = min(row0 + r, x.rows - 1);
        const int64_t first_x = static_cast<int64_t>(xr) * x.k;
        sum[r] += item_dot(item, x.q + first_x, x.scales + first_x / kRun);
      }
    }
    const int next = first + kBatch * 32;
    if (next - lane < items) fetch(next);
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float total = warp_sum(sum[r]);
    if (lane == 0 && row0 + r < x.rows) store_result(part, softcap, row0 + r, column, total);
  }
}

template <GgufType kType>
void run(cudaStream_t stream, const GemvArgs& args, int blocks, bool planar, const Quantized& x) {
  const BlockMap map = block_map(kType, planar);
  const int64_t row_bytes = block_row_bytes(map, x.k);
  for (int row = 0; row < x.rows; row += 8) {
    const int rows = x.rows - row;
    auto* kernel = rows == 1   ? gemv_blocks_kernel<kType, 1>
                   : rows == 2 ? gemv_blocks_kernel<kType, 2>
                   : rows <= 4 ? gemv_blocks_kernel<kType, 4>
                               : gemv_blocks_kernel<kType, 8>;
    launch("multiply quantised weights", kernel, dim3(static_cast<unsigned>(blocks)), dim3(kWarps * 32), 0, stream,
           args.part[0], row_bytes, x, args.softcap, row);
  }
}

}  // namespace

int64_t quantized_bytes(int64_t m, int64_t k) {
  return align16(m * k) + m * (k / kRun) * static_cast<int64_t>(sizeof(float2));
}

void quantize_rows(cudaStream_t stream, const Tensor& x, void* memory) {
  const Mat in = mat(x);
  const Quantized to = quantized(memory, in.rows, in.cols);
  launch("quantise activations", quantize_kernel,
         dim3(static_cast<unsigned>((in.cols / kRun + 127) / 128), static_cast<unsigned>(in.rows)), dim3(128), 0,
         stream, in, const_cast<int8_t*>(to.q), const_cast<float2*>(to.scales));
}

bool gemv_blocks_supports(GgufType type, bool planar) {
  switch (type) {
    case GgufType::kQ4_K:
    case GgufType::kQ5_K:
      return !planar;
    case GgufType::kQ4_0:
    case GgufType::kQ4_1:
    case GgufType::kQ8_0:
    case GgufType::kQ6_K:
      return planar;
    default:
      return false;
  }
}

void gemv_blocks(cudaStream_t stream, const LinearCall& call, bool planar, const void* memory) {
  GemvArgs args;
  const int blocks = gemv_args({&call, 1}, kWarps, args);
  const Quantized x = quantized(memory, args.x.rows, args.k);
  switch (call.linear->shape.format.block) {
    case GgufType::kQ4_0:
      return run<GgufType::kQ4_0>(stream, args, blocks, planar, x);
    case GgufType::kQ4_1:
      return run<GgufType::kQ4_1>(stream, args, blocks, planar, x);
    case GgufType::kQ8_0:
      return run<GgufType::kQ8_0>(stream, args, blocks, planar, x);
    case GgufType::kQ4_K:
      return run<GgufType::kQ4_K>(stream, args, blocks, planar, x);
    case GgufType::kQ5_K:
      return run<GgufType::kQ5_K>(stream, args, blocks, planar, x);
    case GgufType::kQ6_K:
      return run<GgufType::kQ6_K>(stream, args, blocks, planar, x);
    default:
      unsupported("no product of few rows for this block type");
  }
}

}  // namespace baize::cuda
