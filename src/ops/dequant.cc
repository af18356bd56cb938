#include "ops/dequant.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "tensor/gguf_blocks.h"

namespace baize {

namespace {

// ---- one block each; `y` receives 32 or 256 floats --------------------------------------------------------------

void decode(const BlockQ4_0& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>((b.qs[i] & 15) - 8);
    y[i + 16] = d * static_cast<float>((b.qs[i] >> 4) - 8);
  }
}

void decode(const BlockQ4_1& b, float* y) {
  const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>(b.qs[i] & 15) + m;
    y[i + 16] = d * static_cast<float>(b.qs[i] >> 4) + m;
  }
}

// The five-bit value of weight i in a block of 32.
int five_bits(const uint8_t* qs, const uint8_t* qh, int i) {
  const int low = i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
  return low | (((qh[i / 8] >> (i % 8)) & 1) << 4);
}

void decode(const BlockQ5_0& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(five_bits(b.qs, b.qh, i) - 16);
}

void decode(const BlockQ5_1& b, float* y) {
  const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(five_bits(b.qs, b.qh, i)) + m;
}

void decode(const BlockQ8_0& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(b.qs[i]);
}

// 32 weights as nibbles that index a table of integers.
void decode_table(float scale, const uint8_t* qs, const int8_t* table, float* y) {
  for (int i = 0; i < 16; ++i) {
    y[i] = scale * static_cast<float>(table[qs[i] & 15]);
    y[i + 16] = scale * static_cast<float>(table[qs[i] >> 4]);
  }
}

void decode(const BlockIQ4_NL& b, float* y) { decode_table(f16_to_f32(b.d), b.qs, kIq4Values, y); }

void decode(const BlockMXFP4& b, float* y) { decode_table(e8m0_half(b.e), b.qs, kMxfp4Values, y); }

// The two-bit value of weight i in the qs of Q2_K and Q3_K.
int two_bits(const uint8_t* qs, int i) { return (qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3; }

void decode(const BlockQ2_K& b, float* y) {
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  for (int g = 0; g < 16; ++g) {
    const float scale = d * static_cast<float>(b.scales[g] & 15);
    const float min = dmin * static_cast<float>(b.scales[g] >> 4);
    for (int i = g * 16; i < g * 16 + 16; ++i) y[i] = scale * static_cast<float>(two_bits(b.qs, i)) - min;
  }
}

void decode(const BlockQ3_K& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int g = 0; g < 16; ++g) {
    const int low = (b.scales[g % 8] >> (g / 8 * 4)) & 15;
    const int high = (b.scales[8 + g % 4] >> (g / 4 * 2)) & 3;
    const float scale = d * static_cast<float>((low | (high << 4)) - 32);
    for (int i = g * 16; i < g * 16 + 16; ++i) {
      const int third = (b.hmask[i % 32] >> (i / 32)) & 1;
      y[i] = scale * static_cast<float>(two_bits(b.qs, i) + 4 * third - 4);
    }
  }
}

void decode(const BlockQ4_K& b, float* y) {
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  for (int g = 0; g < 8; ++g) {
    const ScaleMin sm = q4_k_scale_min(b.scales, g);
    const float scale = d * static_cast<float>(sm.scale), min = dmin * static_cast<float>(sm.min);
    for (int i = 0; i < 32; ++i) {
      const int q = (b.qs[g / 2 * 32 + i] >> (g % 2 * 4)) & 15;
      y[g * 32 + i] = scale * static_cast<float>(q) - min;
    }
  }
}

void decode(const BlockQ5_K& b, float* y) {
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  for (int g = 0; g < 8; ++g) {
    const ScaleMin sm = q4_k_scale_min(b.scales, g);
    const float scale = d * static_cast<float>(sm.scale), min = dmin * static_cast<float>(sm.min);
    for (int i = 0; i < 32; ++i) {
      const int q = ((b.qs[g / 2 * 32 + i] >> (g % 2 * 4)) & 15) | (((b.qh[i] >> g) & 1) << 4);
      y[g * 32 + i] = scale * static_cast<float>(q) - min;
    }
  }
}

void decode(const BlockQ6_K& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, in_half = i % 128;
    const int low = (b.ql[half * 64 + in_half % 64] >> (in_half / 64 * 4)) & 15;
    const int high = (b.qh[half * 32 + in_half % 32] >> (in_half / 32 * 2)) & 3;
    y[i] = d * static_cast<float>(b.scales[i / 16]) * static_cast<float>((low | (high << 4)) - 32);
  }
}

void decode(const BlockIQ4_XS& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int g = 0; g < 8; ++g) {
    const int low = (b.scales_l[g / 2] >> (g % 2 * 4)) & 15;
    const int high = (b.scales_h >> (g * 2)) & 3;
    const float scale = d * static_cast<float>((low | (high << 4)) - 32);
    decode_table(scale, b.qs + g * 16, kIq4Values, y + g * 32);
  }
}

// ---- rows -------------------------------------------------------------------------------------------------------

// Blocks are copied out, so that `row` may have any alignment.
template <typename Block>
void decode_blocks(const void* row, int64_t n_blocks, int block_elems, float* out) {
  const auto* bytes = static_cast<const std::byte*>(row);
  for (int64_t i = 0; i < n_blocks; ++i) {
    Block block;
    std::memcpy(&block, bytes + i * static_cast<int64_t>(sizeof(Block)), sizeof(Block));
    decode(block, out + i * block_elems);
  }
}

void decode_plain(DType elem, const void* row, int64_t k, float* out) {
  BAIZE_CHECK(elem == DType::kF32 || elem == DType::kF16 || elem == DType::kBF16);
  if (elem == DType::kF32) {
    std::memcpy(out, row, static_cast<size_t>(k) * sizeof(float));
    return;
  }
  const auto* bytes = static_cast<const std::byte*>(row);
  for (int64_t i = 0; i < k; ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes + 2 * i, sizeof(bits));
    out[i] = elem == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
  }
}

void decode_fp8(const QuantFormat& format, const void* row, int64_t k, float* out) {
  const auto* bytes = static_cast<const uint8_t*>(row);
  const int64_t group = format.group == 0 ? k : format.group;
  for (int64_t g = 0; g < format.scales(k); ++g) {
    float scale;
    std::memcpy(&scale, bytes + QuantFormat::scales_offset(k) + g * 4, sizeof(scale));
    for (int64_t i = g * group; i < std::min(k, (g + 1) * group); ++i) out[i] = scale * e4m3_to_f32(bytes[i]);
  }
}

}  // namespace

void dequantize_row(const QuantFormat& format, const void* row, int64_t k, float* out) {
  if (format.scheme == Scheme::kPlain) return decode_plain(format.elem, row, k, out);
  if (format.scheme == Scheme::kFp8) return decode_fp8(format, row, k, out);
  const int elems = format.block_elems();
  BAIZE_CHECK(k % elems == 0);
  const int64_t n = k / elems;
  switch (format.block) {
    case GgufType::kF32:
    case GgufType::kF16:
    case GgufType::kBF16:
      BAIZE_UNREACHABLE("plain GGUF types are Scheme::kPlain");
    case GgufType::kQ4_0:
      return decode_blocks<BlockQ4_0>(row, n, elems, out);
    case GgufType::kQ4_1:
      return decode_blocks<BlockQ4_1>(row, n, elems, out);
    case GgufType::kQ5_0:
      return decode_blocks<BlockQ5_0>(row, n, elems, out);
    case GgufType::kQ5_1:
      return decode_blocks<BlockQ5_1>(row, n, elems, out);
    case GgufType::kQ8_0:
      return decode_blocks<BlockQ8_0>(row, n, elems, out);
    case GgufType::kQ2_K:
      return decode_blocks<BlockQ2_K>(row, n, elems, out);
    case GgufType::kQ3_K:
      return decode_blocks<BlockQ3_K>(row, n, elems, out);
    case GgufType::kQ4_K:
      return decode_blocks<BlockQ4_K>(row, n, elems, out);
    case GgufType::kQ5_K:
      return decode_blocks<BlockQ5_K>(row, n, elems, out);
    case GgufType::kQ6_K:
      return decode_blocks<BlockQ6_K>(row, n, elems, out);
    case GgufType::kIQ4_NL:
      return decode_blocks<BlockIQ4_NL>(row, n, elems, out);
    case GgufType::kIQ4_XS:
      return decode_blocks<BlockIQ4_XS>(row, n, elems, out);
    case GgufType::kMXFP4:
      return decode_blocks<BlockMXFP4>(row, n, elems, out);
  }
  BAIZE_UNREACHABLE("GgufType without a decoder");
}

}  // namespace baize
