// Exact decoding of 32 consecutive weights of any type to f32, in either layout; the slow and simple definition that
// exact products, embeddings and dequantising share.
#pragma once

#include "backend/cuda/blocks.h"
#include "backend/cuda/kernels/common.cuh"

namespace baize::cuda {

/// Weights in device memory: `map` is of blocks only, `scales` and what follows of fp8 only.
struct Weights {
  const uint8_t* data;
  bool plain;
  DType elem;
  BlockMap map;
  int64_t row_bytes;
  int k;
  bool fp8;
  int group;            // weights of a row that share a scale
  const float* scales;  // null: in the rows, at scales_at
  int64_t scales_at;
  int64_t n;  // rows, of scales apart: [k / group, n]
};

inline Weights weights(const LinearShape& shape, const void* data, bool planar = false, const float* scales = nullptr) {
  const QuantFormat& format = shape.format;
  Weights w{};
  w.data = static_cast<const uint8_t*>(data);
  w.plain = format.scheme == Scheme::kPlain;
  w.fp8 = format.scheme == Scheme::kFp8;
  w.elem = format.elem;
  w.k = static_cast<int>(shape.k);
  if (w.fp8) {
    w.group = format.group == 0 ? w.k : format.group;
    w.scales = scales;
    w.scales_at = QuantFormat::scales_offset(shape.k);
    w.n = shape.n;
    w.row_bytes = planar ? shape.k : format.row_bytes(shape.k);
    return w;
  }
  if (!w.plain) w.map = block_map(format.block, planar);
  w.row_bytes = w.plain ? shape.k * dtype_bytes(w.elem) : block_row_bytes(w.map, shape.k);
  return w;
}

__constant__ const int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
__constant__ const int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

__device__ __forceinline__ float half_at(const uint8_t* p) {
  const __half_raw raw{static_cast<unsigned short>(p[0] | p[1] << 8)};
  return __half2float(__half(raw));
}

/// Scale and minimum of group g of a Q4_K or Q5_K block: 6 bits each, packed in 12 bytes.
__device__ __forceinline__ void k_scale_min(const uint8_t* c, int g, int& scale, int& min) {
  if (g < 4) {
    scale = c[g] & 63;
    min = c[g + 4] & 63;
  } else {
    scale = (c[g + 4] & 15) | (c[g - 4] >> 6 << 4);
    min = (c[g + 4] >> 4) | (c[g] >> 6 << 4);
  }
}

/// Group g of 32 weights of one block, given its fields.
__device__ inline void decode_block32(GgufType type, const uint8_t* a, const uint8_t* b, const uint8_t* c,
                                      const uint8_t* d, int g, float (&out)[32]) {
  switch (type) {
    case GgufType::kQ4_0:
    case GgufType::kQ4_1:
    case GgufType::kQ5_0:
    case GgufType::kQ5_1: {
      const bool five = type == GgufType::kQ5_0 || type == GgufType::kQ5_1;
      const bool offset = type == GgufType::kQ4_1 || type == GgufType::kQ5_1;
      const float scale = half_at(d);
      const float minimum = offset ? half_at(d + 2) : 0.0f;
      const int bias = offset ? 0 : five ? 16 : 8;
      const uint32_t high = five ? b[0] | b[1] << 8 | b[2] << 16 | static_cast<uint32_t>(b[3]) << 24 : 0;
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int low = i < 16 ? a[i] & 15 : a[i - 16] >> 4;
        const int q = (low | static_cast<int>(high >> i & 1) << 4) - bias;
        out[i] = __fadd_rn(__fmul_rn(scale, static_cast<float>(q)), minimum);
      }
      break;
    }
    case GgufType::kQ8_0: {
      const float scale = half_at(d);
#pragma unroll
      for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(static_cast<int8_t>(a[i]));
      break;
    }
    case GgufType::kQ2_K: {
      const float scale = half_at(d), minimum = half_at(d + 2);
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int s = c[g * 2 + i / 16];
        const int q = a[g / 4 * 32 + i] >> g % 4 * 2 & 3;
        out[i] = scale * static_cast<float>(s & 15) * static_cast<float>(q) - minimum * static_cast<float>(s >> 4);
      }
      break;
    }
    case GgufType::kQ3_K: {
      const float scale = half_at(d);
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int index = g * 2 + i / 16;
        const int low = index < 8 ? c[index] & 15 : c[index - 8] >> 4;
        const int s = (low | (c[8 + index % 4] >> index / 4 * 2 & 3) << 4) - 32;
        const int q = (a[g / 4 * 32 + i] >> g % 4 * 2 & 3) - (b[i] >> g & 1 ? 0 : 4);
        out[i] = scale * static_cast<float>(s) * static_cast<float>(q);
      }
      break;
    }
    case GgufType::kQ4_K:
    case GgufType::kQ5_K: {
      int s, m;
      k_scale_min(c, g, s, m);
      const float scale = half_at(d) * static_cast<float>(s);
      const float minimum = half_at(d + 2) * static_cast<float>(m);
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        int q = a[g / 2 * 32 + i] >> g % 2 * 4 & 15;
        if (type == GgufType::kQ5_K) q |= (b[i] >> g & 1) << 4;
        out[i] = scale * static_cast<float>(q) - minimum;
      }
      break;
    }
    case GgufType::kQ6_K: {
      const float scale = half_at(d);
      const int half = g / 4, part = g % 4;
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int low = a[half * 64 + part % 2 * 32 + i] >> part / 2 * 4 & 15;
        const int q = (low | (b[half * 32 + i] >> part * 2 & 3) << 4) - 32;
        out[i] = scale * static_cast<float>(static_cast<int8_t>(c[g * 2 + i / 16])) * static_cast<float>(q);
      }
      break;
    }
    case GgufType::kIQ4_NL: {
      const float scale = half_at(d);
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int q = i < 16 ? a[i] & 15 : a[i - 16] >> 4;
        out[i] = scale * static_cast<float>(kIq4Values[q]);
      }
      break;
    }
    case GgufType::kIQ4_XS: {
      const int low = c[2 + g / 2] >> g % 2 * 4 & 15;
      const int high = (c[0] | c[1] << 8) >> 2 * g & 3;
      const float scale = half_at(d) * static_cast<float>((low | high << 4) - 32);
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int q = i < 16 ? a[g * 16 + i] & 15 : a[g * 16 + i - 16] >> 4;
        out[i] = scale * static_cast<float>(kIq4Values[q]);
      }
      break;
    }
    case GgufType::kMXFP4: {
      const uint32_t e = d[0];
      const float scale = __uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int q = i < 16 ? a[i] & 15 : a[i - 16] >> 4;
        out[i] = scale * static_cast<float>(kMxfp4Values[q]);
      }
      break;
    }
    default:
      break;
  }
}

/// Weights [32 * group, 32 * group + 32) of `row`; beyond k: zeros.
__device__ inline void decode32(const Weights& w, int64_t row, int group, float (&out)[32]) {
  const uint8_t* base = w.data + row * w.row_bytes;
  if (w.plain) {
#pragma unroll
    for (int i = 0; i < 32; ++i) out[i] = group * 32 + i < w.k ? load1(base, w.elem, group * 32 + i) : 0.0f;
    return;
  }
  if (w.fp8) {
    const float* own = reinterpret_cast<const float*>(base + w.scales_at);
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const int at = group * 32 + i;
      const int g = at / w.group;
      out[i] = 0;
      if (at < w.k) out[i] = (w.scales != nullptr ? w.scales[g * w.n + row] : own[g]) * e4m3_to_f32(base[at]);
    }
    return;
  }
  const BlockMap& map = w.map;
  const int per_block = map.elems / 32;
  const int block = group / per_block;
  const int g = group % per_block;
  if (map.planar) {
    const PlanarUnit unit = planar_unit(map);
    const uint8_t* p = base + static_cast<int64_t>(block / unit.blocks) * unit.bytes;
    const int i = block % unit.blocks;
    decode_block32(map.type, p + i * map.a, p + unit.b + i * map.b, p + unit.c + i * map.c, p + unit.d + i * map.d, g,
                   out);
  } else {
    const uint8_t* p = base + static_cast<int64_t>(block) * map.bytes;
    decode_block32(map.type, p + map.at_a, p + map.at_b, p + map.at_c, p + map.at_d, g, out);
  }
}

}  // namespace baize::cuda
