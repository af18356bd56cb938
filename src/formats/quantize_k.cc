// Quantisers of the types whose blocks hold 256 weights in groups with whole-number scales of their own.
#include "formats/quantize_search.h"
#include "tensor/dtype.h"
#include "tensor/gguf_blocks.h"

namespace baize {

namespace {

constexpr int kBlock = 256;

float stored(float value, uint16_t& bits) {
  bits = f32_to_f16(std::clamp(value, -65504.0f, 65504.0f));
  return f16_to_f32(bits);
}

float inverse_of(float scale) { return scale == 0 ? 0 : 1 / scale; }

// Groups of `Size` weights, w = d sc q with whole sc in [low, high] and q in [q_low, q_high].
template <int Size>
struct SymmetricGroups {
  static constexpr int kCount = kBlock / Size;
  uint16_t d = 0;
  int scales[kCount];
  int q[kBlock];

  SymmetricGroups(const float* x, int low, int high, int q_low, int q_high) {
    float fits[kCount];
    for (int g = 0; g < kCount; ++g) fits[g] = fit_scale(x + g * Size, Size, q_low, q_high);
    // The group of the greatest scale gets the end of the range that reaches further.
    const float unit = stored(extreme(fits, kCount) / static_cast<float>(low), d);
    for (int g = 0; g < kCount; ++g) {
      scales[g] = nearest(fits[g] * inverse_of(unit), low, high);
      const float inverse = inverse_of(unit * static_cast<float>(scales[g]));
      for (int i = g * Size; i < (g + 1) * Size; ++i) q[i] = nearest(x[i] * inverse, q_low, q_high);
    }
  }
};

// Groups of `Size` weights, w = d sc q - dmin mn with sc and mn in [0, most] and q in [0, levels].
template <int Size>
struct AffineGroups {
  static constexpr int kCount = kBlock / Size;
  uint16_t d = 0, dmin = 0;
  int scales[kCount], mins[kCount];
  int q[kBlock];

  AffineGroups(const float* x, int most, int levels) {
    ScaleAndMin fits[kCount];
    float scale = 0, min = 0;
    for (int g = 0; g < kCount; ++g) {
      fits[g] = fit_scale_and_min(x + g * Size, Size, levels, true);
      scale = std::max(scale, fits[g].scale);
      min = std::max(min, -fits[g].min);
    }
    const float unit = stored(scale / static_cast<float>(most), d);
    const float min_unit = stored(min / static_cast<float>(most), dmin);
    for (int g = 0; g < kCount; ++g) {
      scales[g] = nearest(fits[g].scale * inverse_of(unit), 0, most);
      mins[g] = nearest(-fits[g].min * inverse_of(min_unit), 0, most);
    }
    round(x, unit, min_unit, levels);
    refit(x, levels);
  }

 private:
  void round(const float* x, float unit, float min_unit, int levels) {
    for (int g = 0; g < kCount; ++g) {
      const float inverse = inverse_of(unit * static_cast<float>(scales[g]));
      const float offset = min_unit * static_cast<float>(mins[g]);
      for (int i = g * Size; i < (g + 1) * Size; ++i) q[i] = nearest((x[i] + offset) * inverse, 0, levels);
    }
  }

  double error(const float* x, float unit, float min_unit) const {
    double sum = 0;
    for (int i = 0; i < kBlock; ++i) {
      const float w =
          unit * static_cast<float>(scales[i / Size] * q[i]) - min_unit * static_cast<float>(mins[i / Size]);
      sum += static_cast<double>(w - x[i]) * static_cast<double>(w - x[i]);
    }
    return sum;
  }

  // d and dmin anew by least squares, now that everything else is whole numbers; kept where that helps.
  void refit(const float* x, int levels) {
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (int i = 0; i < kBlock; ++i) {
      const double a = scales[i / Size] * q[i], b = -mins[i / Size];
      aa += a * a;
      ab += a * b;
      bb += b * b;
      ax += a * static_cast<double>(x[i]);
      bx += b * static_cast<double>(x[i]);
    }
    const double determinant = aa * bb - ab * ab;
    if (!(determinant > 1e-12 * aa * bb)) return;
    const auto better = static_cast<float>((ax * bb - bx * ab) / determinant);
    const auto better_min = static_cast<float>((aa * bx - ab * ax) / determinant);
    if (!(better > 0) || better_min < 0) return;
    const AffineGroups before = *this;
    const double old = error(x, f16_to_f32(d), f16_to_f32(dmin));
    const float unit = stored(better, d), min_unit = stored(better_min, dmin);
    round(x, unit, min_unit, levels);
    if (error(x, unit, min_unit) > old) *this = before;
  }
};

void pack_two_bits(const int (&q)[kBlock], uint8_t (&qs)[64]) {
  for (int i = 0; i < kBlock; ++i) {
    qs[i / 128 * 32 + i % 32] = static_cast<uint8_t>(qs[i / 128 * 32 + i % 32] | (q[i] & 3) << (i % 128 / 32 * 2));
  }
}

// Nibbles of groups of 32: an even group's low, the next one's high.
void pack_groups(const int (&q)[kBlock], uint8_t (&qs)[128]) {
  for (int i = 0; i < kBlock; ++i) {
    uint8_t& byte = qs[i / 64 * 32 + i % 32];
    byte = static_cast<uint8_t>(byte | (q[i] & 15) << (i / 32 % 2 * 4));
  }
}

// The other way round than q4_k_scale_min.
void pack_scales_and_mins(const int (&scales)[8], const int (&mins)[8], uint8_t (&packed)[12]) {
  for (int g = 0; g < 4; ++g) {
    packed[g] = static_cast<uint8_t>(scales[g] | (scales[g + 4] >> 4) << 6);
    packed[g + 4] = static_cast<uint8_t>(mins[g] | (mins[g + 4] >> 4) << 6);
    packed[g + 8] = static_cast<uint8_t>((scales[g + 4] & 15) | (mins[g + 4] & 15) << 4);
  }
}

}  // namespace

void encode(const float* x, BlockQ2_K& block) {
  const AffineGroups<16> groups(x, 15, 3);
  block.d = groups.d;
  block.dmin = groups.dmin;
  for (int g = 0; g < 16; ++g) block.scales[g] = static_cast<uint8_t>(groups.scales[g] | groups.mins[g] << 4);
  pack_two_bits(groups.q, block.qs);
}

void encode(const float* x, BlockQ3_K& block) {
  const SymmetricGroups<16> groups(x, -32, 31, -4, 3);
  block.d = groups.d;
  int q[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    q[i] = groups.q[i] + 4;
    block.hmask[i % 32] = static_cast<uint8_t>(block.hmask[i % 32] | (q[i] >> 2) << (i / 32));
  }
  pack_two_bits(q, block.qs);
  for (int g = 0; g < 16; ++g) {
    const int scale = groups.scales[g] + 32;
    block.scales[g % 8] = static_cast<uint8_t>(block.scales[g % 8] | (scale & 15) << (g / 8 * 4));
    block.scales[8 + g % 4] = static_cast<uint8_t>(block.scales[8 + g % 4] | (scale >> 4) << (g / 4 * 2));
  }
}

void encode(const float* x, BlockQ4_K& block) {
  const AffineGroups<32> groups(x, 63, 15);
  block.d = groups.d;
  block.dmin = groups.dmin;
  pack_scales_and_mins(groups.scales, groups.mins, block.scales);
  pack_groups(groups.q, block.qs);
}

void encode(const float* x, BlockQ5_K& block) {
  const AffineGroups<32> groups(x, 63, 31);
  block.d = groups.d;
  block.dmin = groups.dmin;
  pack_scales_and_mins(groups.scales, groups.mins, block.scales);
  pack_groups(groups.q, block.qs);
  for (int i = 0; i < kBlock; ++i) {
    block.qh[i % 32] = static_cast<uint8_t>(block.qh[i % 32] | (groups.q[i] >> 4) << (i / 32));
  }
}

void encode(const float* x, BlockQ6_K& block) {
  const SymmetricGroups<16> groups(x, -128, 127, -32, 31);
  block.d = groups.d;
  for (int g = 0; g < 16; ++g) block.scales[g] = static_cast<int8_t>(groups.scales[g]);
  for (int i = 0; i < kBlock; ++i) {
    const int q = groups.q[i] + 32, half = i / 128, part = i % 128 / 32;
    uint8_t& low = block.ql[half * 64 + i % 64];
    uint8_t& high = block.qh[half * 32 + i % 32];
    low = static_cast<uint8_t>(low | (q & 15) << (part / 2 * 4));
    high = static_cast<uint8_t>(high | (q >> 4) << (part * 2));
  }
}

void encode(const float* x, BlockIQ4_XS& block) {
  float fits[8];
  for (int g = 0; g < 8; ++g) fits[g] = fit_table_scale(x + g * 32, 32, kIq4Values, 16);
  const float unit = stored(extreme(fits, 8) / -32, block.d);
  for (int g = 0; g < 8; ++g) {
    const int scale = nearest(fits[g] * inverse_of(unit), -32, 31) + 32;
    block.scales_l[g / 2] = static_cast<uint8_t>(block.scales_l[g / 2] | (scale & 15) << (g % 2 * 4));
    block.scales_h = static_cast<uint16_t>(block.scales_h | (scale >> 4) << (g * 2));
    const float inverse = inverse_of(unit * static_cast<float>(scale - 32));
    for (int i = 0; i < 32; ++i) {
      const int q = nearest_in(kIq4Values, 16, x[g * 32 + i] * inverse);
      uint8_t& byte = block.qs[g * 16 + i % 16];
      byte = static_cast<uint8_t>(byte | q << (i / 16 * 4));
    }
  }
}

}  // namespace baize
