// Products of 1 to 16 rows with GGUF blocks. The rows are quantised to 8 bits with one scale for 16 values; a lane takes
// an item of 32 weights as two runs of 16, multiplies in integers (dp4a) and scales the two sums. Types whose blocks are
// not multiples of 16 bytes are read from the planar layout.
#include "backend/cuda/blocks.h"
#include "backend/cuda/check.h"
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/gemv.cuh"

namespace baize::cuda {

namespace {

constexpr int kWarps = 8;
constexpr int kRun = 16;  // values with one scale

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

// 32 weights: two runs of 16 bytes, each value = scale * byte + offset; first elements at `at`.
struct Item {
  uint32_t q[2][4];
  float scale[2], offset[2];
  int at[2];
};

__device__ __forceinline__ float half_of(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}
__device__ __forceinline__ void split_nibbles(const uint4& raw, Item& item) {
  const uint32_t w[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    item.q[0][i] = w[i] & 0x0f0f0f0fu;
    item.q[1][i] = w[i] >> 4 & 0x0f0f0f0fu;
  }
}
// Bits `shift` .. of every byte of b, put at bit 4 of the bytes of q.
template <int kBits>
__device__ __forceinline__ void add_high(const uint4& b, int shift, uint32_t (&q)[4]) {
  constexpr uint32_t mask = kBits == 1 ? 0x01010101u : 0x03030303u;
  const uint32_t w[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) q[i] |= (w[i] >> shift & mask) << 4;
}
__device__ __forceinline__ uint4 wide_at(const uint8_t* p) { return *reinterpret_cast<const uint4*>(p); }

// Loads item i of a row. A type is added by adding its case here and in gemv_blocks_supports.
template <GgufType kType>
__device__ __forceinline__ Item load_item(const uint8_t* row, const PlanarRow& at, int i) {
  Item item;
  if constexpr (kType == GgufType::kQ4_0 || kType == GgufType::kQ4_1) {
    split_nibbles(load_stream(row + at.a + i * 16), item);
    if constexpr (kType == GgufType::kQ4_0) {
      const float d = half_of(*reinterpret_cast<const uint16_t*>(row + at.d + i * 2));
      item.scale[0] = item.scale[1] = d;
      item.offset[0] = item.offset[1] = -8.0f * d;
    } else {
      const uint32_t dm = *reinterpret_cast<const uint32_t*>(row + at.d + i * 4);
      item.scale[0] = item.scale[1] = half_of(dm & 0xffffu);
      item.offset[0] = item.offset[1] = half_of(dm >> 16);
    }
    item.at[0] = i * 32;
    item.at[1] = i * 32 + 16;
  } else if constexpr (kType == GgufType::kQ8_0) {
    const uint4 lo = load_stream(row + at.a + i * 32), hi = load_stream(row + at.a + i * 32 + 16);
    item.q[0][0] = lo.x, item.q[0][1] = lo.y, item.q[0][2] = lo.z, item.q[0][3] = lo.w;
    item.q[1][0] = hi.x, item.q[1][1] = hi.y, item.q[1][2] = hi.z, item.q[1][3] = hi.w;
    item.scale[0] = item.scale[1] = half_of(*reinterpret_cast<const uint16_t*>(row + at.d + i * 2));
    item.offset[0] = item.offset[1] = 0;
    item.at[0] = i * 32;
    item.at[1] = i * 32 + 16;
  } else if constexpr (kType == GgufType::kQ4_K || kType == GgufType::kQ5_K) {
    constexpr BlockMap kMap = block_map(kType);
    const uint8_t* block = row + static_cast<int64_t>(i / 8) * kMap.bytes;
    const int j = i % 8, pair = j / 2;
    split_nibbles(load_stream(block + kMap.at_a + j * 16), item);
    if constexpr (kType == GgufType::kQ5_K) {
      const uint4 high = wide_at(block + kMap.at_b + j % 2 * 16);
      add_high<1>(high, 2 * pair, item.q[0]);
      add_high<1>(high, 2 * pair + 1, item.q[1]);
    }
    const uint4 head = wide_at(block);  // d, dmin, 12 bytes of scales and minimums
    const float d = half_of(head.x & 0xffffu), dmin = half_of(head.x >> 16);
    // Scale and minimum of the groups 2 * pair and 2 * pair + 1, as pairs of bytes.
    const int shift = pair % 2 * 16;
    uint32_t scale = head.y >> shift, minimum = head.z >> shift;
    if (pair < 2) {
      scale &= 0x3f3fu;
      minimum &= 0x3f3fu;
    } else {
      const uint32_t low = head.w >> shift;
      scale = (low & 0x0f0fu) | (scale >> 2 & 0x3030u);
      minimum = (low >> 4 & 0x0f0fu) | (minimum >> 2 & 0x3030u);
    }
    item.scale[0] = d * static_cast<float>(scale & 255u);
    item.scale[1] = d * static_cast<float>(scale >> 8 & 255u);
    item.offset[0] = -dmin * static_cast<float>(minimum & 255u);
    item.offset[1] = -dmin * static_cast<float>(minimum >> 8 & 255u);
    item.at[0] = i / 8 * 256 + pair * 64 + j % 2 * 16;
    item.at[1] = item.at[0] + 32;
  } else if constexpr (kType == GgufType::kQ6_K) {
    const int block = i / 8, j = i % 8, half = j / 4, part = j % 4 / 2, run = j % 2;
    split_nibbles(load_stream(row + at.a + i * 16), item);
    const uint4 high = wide_at(row + at.b + block * 64 + half * 32 + run * 16);
    add_high<2>(high, 2 * part, item.q[0]);
    add_high<2>(high, 2 * part + 4, item.q[1]);
    const float d = half_of(*reinterpret_cast<const uint16_t*>(row + at.d + block * 2));
    const auto* scales = reinterpret_cast<const int8_t*>(row + at.c + block * 16 + half * 8 + part * 2 + run);
    item.scale[0] = d * static_cast<float>(scales[0]);
    item.scale[1] = d * static_cast<float>(scales[4]);
    item.offset[0] = -32.0f * item.scale[0];
    item.offset[1] = -32.0f * item.scale[1];
    item.at[0] = block * 256 + half * 128 + part * 32 + run * 16;
    item.at[1] = item.at[0] + 64;
  }
  return item;
}

// One warp a row of weights; kRows rows of x. The items of a batch are loaded before any is used.
template <GgufType kType, int kRows>
__global__ void __launch_bounds__(kWarps * 32)
    gemv_blocks_kernel(GemvPart part, int64_t row_bytes, PlanarRow at, Quantized x, float softcap, int row0) {
  constexpr int kBatch = kRows <= 2 ? 4 : 2;
  pdl_launch();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int column = blockIdx.x * kWarps + warp;
  if (column >= part.n) return;
  const uint8_t* row = part.w + column * row_bytes;
  const int items = x.k / 32;
  Item batch[kBatch];
#pragma unroll
  for (int j = 0; j < kBatch; ++j) batch[j] = load_item<kType>(row, at, min(lane + j * 32, items - 1));
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
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int64_t e = static_cast<int64_t>(xr) * x.k + item.at[h];
          const uint4 v = *reinterpret_cast<const uint4*>(x.q + e);
          const float2 s = x.scales[e / kRun];
          int dot = __dp4a(static_cast<int>(item.q[h][0]), static_cast<int>(v.x), 0);
          dot = __dp4a(static_cast<int>(item.q[h][1]), static_cast<int>(v.y), dot);
          dot = __dp4a(static_cast<int>(item.q[h][2]), static_cast<int>(v.z), dot);
          dot = __dp4a(static_cast<int>(item.q[h][3]), static_cast<int>(v.w), dot);
          sum[r] += item.scale[h] * s.x * static_cast<float>(dot) + item.offset[h] * s.y;
        }
      }
    }
    const int next = first + kBatch * 32;
    if (next - lane < items) {
#pragma unroll
      for (int j = 0; j < kBatch; ++j) batch[j] = load_item<kType>(row, at, min(next + j * 32, items - 1));
    }
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
  const PlanarRow at = planar_row(map, x.k / map.elems);
  for (int row = 0; row < x.rows; row += 8) {
    const int rows = x.rows - row;
    auto* kernel = rows == 1   ? gemv_blocks_kernel<kType, 1>
                   : rows == 2 ? gemv_blocks_kernel<kType, 2>
                   : rows <= 4 ? gemv_blocks_kernel<kType, 4>
                               : gemv_blocks_kernel<kType, 8>;
    launch("multiply quantised weights", kernel, dim3(static_cast<unsigned>(blocks)), dim3(kWarps * 32), 0, stream,
           args.part[0], row_bytes, at, x, args.softcap, row);
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
