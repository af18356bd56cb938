#include "formats/quantize.h"

#include <cstring>
#include <limits>

#include "base/check.h"
#include "formats/quantize_search.h"
#include "tensor/dtype.h"
#include "tensor/gguf_blocks.h"

namespace baize {

namespace {

constexpr int kGroup = 32;
constexpr float kMaxHalf = 65504;  // the largest f16

// What a scale becomes when it is stored; nearest() then rounds for that one.
float stored(float scale, uint16_t& bits) {
  bits = f32_to_f16(std::clamp(scale, -kMaxHalf, kMaxHalf));
  return f16_to_f32(bits);
}

float inverse_of(float scale) { return scale == 0 ? 0 : 1 / scale; }

// Weight i and i + 16 share a byte.
void pack_nibbles(const int (&q)[kGroup], uint8_t* qs) {
  for (int i = 0; i < kGroup / 2; ++i) qs[i] = static_cast<uint8_t>((q[i] & 15) | (q[i + kGroup / 2] & 15) << 4);
}

void pack_fifth_bits(const int (&q)[kGroup], uint8_t (&qh)[4]) {
  uint32_t bits = 0;
  for (int i = 0; i < kGroup; ++i) bits |= static_cast<uint32_t>(q[i] >> 4 & 1) << i;
  std::memcpy(qh, &bits, sizeof bits);
}

// w = d (q - half) with q in [0, 2 half).
uint16_t symmetric(const float* x, int half, int (&q)[kGroup]) {
  uint16_t bits = 0;
  const float d = stored(fit_scale(x, kGroup, -half, half - 1), bits), inverse = inverse_of(d);
  for (int i = 0; i < kGroup; ++i) q[i] = nearest(x[i] * inverse, -half, half - 1) + half;
  return bits;
}

// w = d q + m with q in [0, levels].
void affine(const float* x, int levels, int (&q)[kGroup], uint16_t& d_bits, uint16_t& m_bits) {
  const ScaleAndMin fit = fit_scale_and_min(x, kGroup, levels, false);
  const float inverse = inverse_of(stored(fit.scale, d_bits)), min = stored(fit.min, m_bits);
  for (int i = 0; i < kGroup; ++i) q[i] = nearest((x[i] - min) * inverse, 0, levels);
}

void encode(const float* x, BlockQ4_0& block) {
  int q[kGroup];
  block.d = symmetric(x, 8, q);
  pack_nibbles(q, block.qs);
}

void encode(const float* x, BlockQ5_0& block) {
  int q[kGroup];
  block.d = symmetric(x, 16, q);
  pack_nibbles(q, block.qs);
  pack_fifth_bits(q, block.qh);
}

void encode(const float* x, BlockQ4_1& block) {
  int q[kGroup];
  affine(x, 15, q, block.d, block.m);
  pack_nibbles(q, block.qs);
}

void encode(const float* x, BlockQ5_1& block) {
  int q[kGroup];
  affine(x, 31, q, block.d, block.m);
  pack_nibbles(q, block.qs);
  pack_fifth_bits(q, block.qh);
}

void encode(const float* x, BlockQ8_0& block) {
  const float inverse = inverse_of(stored(std::abs(extreme(x, kGroup)) / 127, block.d));
  for (int i = 0; i < kGroup; ++i) block.qs[i] = static_cast<int8_t>(nearest(x[i] * inverse, -127, 127));
}

void encode(const float* x, BlockIQ4_NL& block) {
  int q[kGroup];
  const float inverse = inverse_of(stored(fit_table_scale(x, kGroup, kIq4Values, 16), block.d));
  for (int i = 0; i < kGroup; ++i) q[i] = nearest_in(kIq4Values, 16, x[i] * inverse);
  pack_nibbles(q, block.qs);
}

// Of the powers of two near the one that covers the group, that of the least error.
void encode(const float* x, BlockMXFP4& block) {
  int exponent = 0;
  const float most = std::abs(extreme(x, kGroup));
  std::frexp(most, &exponent);
  // most = f 2^exponent with f in [0.5, 1); the largest code point is 6 = 1.5 * 2^2.
  const int covers = exponent + 125;
  float least = std::numeric_limits<float>::infinity();
  block = {};
  if (most == 0) return;
  for (int e = covers - 1; e <= covers; ++e) {
    if (e < 0 || e > 254) continue;
    const float d = e8m0_half(static_cast<uint8_t>(e)), inverse = 1 / d;
    int q[kGroup];
    float error = 0;
    for (int i = 0; i < kGroup; ++i) {
      q[i] = nearest_in(kMxfp4Values, 8, std::abs(x[i]) * inverse) + (x[i] < 0 ? 8 : 0);
      const float off = d * static_cast<float>(kMxfp4Values[q[i]]) - x[i];
      error += off * off;
    }
    if (error >= least) continue;
    least = error;
    block.e = static_cast<uint8_t>(e);
    pack_nibbles(q, block.qs);
  }
}

template <typename Block>
void encode_blocks(const float* weights, int64_t k, void* out) {
  auto* to = static_cast<std::byte*>(out);
  constexpr int64_t kElems = sizeof(Block) > 40 ? 256 : 32;
  for (int64_t i = 0; i < k; i += kElems, to += sizeof(Block)) {
    Block block{};
    encode(weights + i, block);
    std::memcpy(to, &block, sizeof block);
  }
}

template <typename Convert>
void encode_halves(const float* weights, int64_t k, void* out, Convert convert) {
  auto* to = static_cast<std::byte*>(out);
  for (int64_t i = 0; i < k; ++i) {
    const uint16_t bits = convert(weights[i]);
    std::memcpy(to + 2 * i, &bits, sizeof bits);
  }
}

}  // namespace

void quantize_row(GgufType type, const float* weights, int64_t k, void* out) {
  BAIZE_CHECK(k % gguf_type_info(type).block_elems == 0);
  switch (type) {
    case GgufType::kF32:
      std::memcpy(out, weights, static_cast<size_t>(k) * sizeof(float));
      return;
    case GgufType::kF16:
      return encode_halves(weights, k, out, [](float x) { return f32_to_f16(std::clamp(x, -kMaxHalf, kMaxHalf)); });
    case GgufType::kBF16:
      return encode_halves(weights, k, out, f32_to_bf16);
    case GgufType::kQ4_0:
      return encode_blocks<BlockQ4_0>(weights, k, out);
    case GgufType::kQ4_1:
      return encode_blocks<BlockQ4_1>(weights, k, out);
    case GgufType::kQ5_0:
      return encode_blocks<BlockQ5_0>(weights, k, out);
    case GgufType::kQ5_1:
      return encode_blocks<BlockQ5_1>(weights, k, out);
    case GgufType::kQ8_0:
      return encode_blocks<BlockQ8_0>(weights, k, out);
    case GgufType::kQ2_K:
      return encode_blocks<BlockQ2_K>(weights, k, out);
    case GgufType::kQ3_K:
      return encode_blocks<BlockQ3_K>(weights, k, out);
    case GgufType::kQ4_K:
      return encode_blocks<BlockQ4_K>(weights, k, out);
    case GgufType::kQ5_K:
      return encode_blocks<BlockQ5_K>(weights, k, out);
    case GgufType::kQ6_K:
      return encode_blocks<BlockQ6_K>(weights, k, out);
    case GgufType::kIQ4_NL:
      return encode_blocks<BlockIQ4_NL>(weights, k, out);
    case GgufType::kIQ4_XS:
      return encode_blocks<BlockIQ4_XS>(weights, k, out);
    case GgufType::kMXFP4:
      return encode_blocks<BlockMXFP4>(weights, k, out);
  }
  BAIZE_UNREACHABLE("GgufType without an encoder");
}

}  // namespace baize
