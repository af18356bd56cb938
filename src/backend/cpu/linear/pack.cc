#include "backend/cpu/linear/pack.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "tensor/gguf_blocks.h"

namespace baize::cpu {

namespace {

constexpr GgufType kTypes[kQuantTypes] = {GgufType::kQ4_0, GgufType::kQ4_1, GgufType::kQ5_0,   GgufType::kQ5_1,
                                          GgufType::kQ8_0, GgufType::kQ2_K, GgufType::kQ3_K,   GgufType::kQ4_K,
                                          GgufType::kQ5_K, GgufType::kQ6_K, GgufType::kIQ4_NL, GgufType::kIQ4_XS,
                                          GgufType::kMXFP4};

uint32_t load32(const void* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
void store32(uint8_t* p, uint32_t v) { std::memcpy(p, &v, sizeof(v)); }
void store16(uint8_t* p, uint16_t v) { std::memcpy(p, &v, sizeof(v)); }

// ---- fields of one row and one group of 32 weights; `out` is the field's place of row 0, `r` the row ----
// The dword of quad j holds weights 4 j .. 4 j + 3, so all fields move as dwords of four bytes.

// Stored as in Q4_0: weight i in the low nibble of byte i, weight i + 16 in the high one.
void put_nibbles(uint8_t* out, int r, const uint8_t* qs) {
  for (int c = 0; c < 4; ++c) std::memcpy(out + 64 * c + 4 * r, qs + 4 * c, 4);
}

// From 32 bytes of which the group has the low (shift 0) or the high (shift 4) nibbles.
void put_nibbles_of_half(uint8_t* out, int r, const uint8_t* qs, int shift) {
  constexpr uint32_t kLow = 0x0f0f0f0fu;
  for (int c = 0; c < 4; ++c) {
    const uint32_t first = (load32(qs + 4 * c) >> shift) & kLow, second = (load32(qs + 16 + 4 * c) >> shift) & kLow;
    store32(out + 64 * c + 4 * r, first | second << 4);
  }
}

// From 32 bytes that hold the group's two bits at `shift`.
void put_twos(uint8_t* out, int r, const uint8_t* qs, int shift) {
  constexpr uint32_t kTwo = 0x03030303u;
  for (int c = 0; c < 2; ++c) {
    uint32_t v = 0;
    for (int i = 0; i < 4; ++i) v |= ((load32(qs + 16 * c + 4 * i) >> shift) & kTwo) << (2 * i);
    store32(out + 64 * c + 4 * r, v);
  }
}

// From a word whose bit i belongs to weight i.
void put_ones(uint8_t* out, int r, uint32_t bits) {
  uint32_t v = 0;
  for (int i = 0; i < 4; ++i) {
    uint32_t x = (bits >> i) & 0x11111111u;  // every fourth bit, moved together
    x = (x | x >> 3) & 0x03030303u;
    x = (x | x >> 6) & 0x000f000fu;
    x = (x | x >> 12) & 0xffu;
    v |= x << (8 * i);
  }
  store32(out + 4 * r, v);
}

// From 32 bytes of which bit `shift` belongs to the group.
void put_ones_of_bytes(uint8_t* out, int r, const uint8_t* bytes, int shift) {
  uint32_t v = 0;
  for (int j = 0; j < 8; ++j) v |= ((load32(bytes + 4 * j) >> shift) & 0x01010101u) << j;
  store32(out + 4 * r, v);
}

// `Groups` six-bit scales of one row.
template <int Groups>
void put_sixes(uint8_t* out, int r, const uint8_t* scales) {
  constexpr int kLow = Groups / 2, kHigh = Groups / 4;
  for (int v = 0; v < kLow; ++v) {
    out[16 * v + r] = static_cast<uint8_t>((scales[v] & 15) | (scales[v + kLow] & 15) << 4);
  }
  for (int v = 0; v < kHigh; ++v) {
    int byte = 0;
    for (int i = 0; i < 4; ++i) byte |= scales[v + i * kHigh] >> 4 << (2 * i);
    out[16 * (kLow + v) + r] = static_cast<uint8_t>(byte);
  }
}

// The 12 scale bytes of Q4_K and Q5_K.
void put_pairs(uint8_t* out, int r, const uint8_t* packed) {
  int high[8];
  for (int g = 0; g < 8; ++g) {
    const ScaleMin sm = q4_k_scale_min(packed, g);
    out[16 * g + r] = static_cast<uint8_t>((sm.scale & 15) | (sm.min & 15) << 4);
    high[g] = sm.scale >> 4 | sm.min >> 4 << 2;
  }
  for (int g = 0; g < 4; ++g) out[128 + 16 * g + r] = static_cast<uint8_t>(high[g] | high[g + 4] << 4);
}

// ---- one stored block into row r of a packed block ----
void put(uint8_t* out, int r, const BlockQ4_0& b) {
  store16(out + 2 * r, b.d);
  put_nibbles(out + 32, r, b.qs);
}
void put(uint8_t* out, int r, const BlockIQ4_NL& b) {
  store16(out + 2 * r, b.d);
  put_nibbles(out + 32, r, b.qs);
}
void put(uint8_t* out, int r, const BlockMXFP4& b) {
  out[r] = b.e;
  put_nibbles(out + 16, r, b.qs);
}
void put(uint8_t* out, int r, const BlockQ4_1& b) {
  store16(out + 2 * r, b.d);
  store16(out + 32 + 2 * r, b.m);
  put_nibbles(out + 64, r, b.qs);
}
void put(uint8_t* out, int r, const BlockQ5_0& b) {
  store16(out + 2 * r, b.d);
  put_ones(out + 32, r, load32(b.qh));
  put_nibbles(out + 96, r, b.qs);
}
void put(uint8_t* out, int r, const BlockQ5_1& b) {
  store16(out + 2 * r, b.d);
  store16(out + 32 + 2 * r, b.m);
  put_ones(out + 64, r, load32(b.qh));
  put_nibbles(out + 128, r, b.qs);
}
void put(uint8_t* out, int r, const BlockQ8_0& b) {
  store16(out + 2 * r, b.d);
  for (int j = 0; j < 8; ++j) store32(out + 32 + 64 * j + 4 * r, load32(b.qs + 4 * j) ^ 0x80808080u);
}
void put(uint8_t* out, int r, const BlockQ2_K& b) {
  store16(out + 2 * r, b.d);
  store16(out + 32 + 2 * r, b.dmin);
  for (int i = 0; i < 16; ++i) out[64 + 16 * i + r] = b.scales[i];
  for (int g = 0; g < 8; ++g) put_twos(out + 320 + 128 * g, r, b.qs + g / 4 * 32, g % 4 * 2);
}
void put(uint8_t* out, int r, const BlockQ3_K& b) {
  store16(out + 2 * r, b.d);
  uint8_t scales[16];
  for (int i = 0; i < 16; ++i) {
    const int low = b.scales[i % 8] >> (i / 8 * 4) & 15, high = b.scales[8 + i % 4] >> (i / 4 * 2) & 3;
    scales[i] = static_cast<uint8_t>(low | high << 4);
  }
  put_sixes<16>(out + 32, r, scales);
  for (int g = 0; g < 8; ++g) {
    uint8_t* to = out + 224 + 192 * g;
    put_twos(to, r, b.qs + g / 4 * 32, g % 4 * 2);
    put_ones_of_bytes(to + 128, r, b.hmask, g);
  }
}
void put(uint8_t* out, int r, const BlockQ4_K& b) {
  store16(out + 2 * r, b.d);
  store16(out + 32 + 2 * r, b.dmin);
  put_pairs(out + 64, r, b.scales);
  for (int g = 0; g < 8; ++g) put_nibbles_of_half(out + 256 + 256 * g, r, b.qs + g / 2 * 32, g % 2 * 4);
}
void put(uint8_t* out, int r, const BlockQ5_K& b) {
  store16(out + 2 * r, b.d);
  store16(out + 32 + 2 * r, b.dmin);
  put_pairs(out + 64, r, b.scales);
  for (int g = 0; g < 8; ++g) {
    uint8_t* to = out + 256 + 320 * g;
    put_ones_of_bytes(to, r, b.qh, g);
    put_nibbles_of_half(to + 64, r, b.qs + g / 2 * 32, g % 2 * 4);
  }
}
void put(uint8_t* out, int r, const BlockQ6_K& b) {
  store16(out + 2 * r, b.d);
  for (int i = 0; i < 16; ++i) out[32 + 16 * i + r] = static_cast<uint8_t>(b.scales[i]);
  for (int g = 0; g < 8; ++g) {
    uint8_t* to = out + 288 + 384 * g;
    const int half = g / 4, part = g % 4;
    put_twos(to, r, b.qh + 32 * half, part * 2);
    put_nibbles_of_half(to + 128, r, b.ql + 64 * half + part % 2 * 32, part / 2 * 4);
  }
}
void put(uint8_t* out, int r, const BlockIQ4_XS& b) {
  store16(out + 2 * r, b.d);
  uint8_t scales[8];
  for (int g = 0; g < 8; ++g) {
    const int low = b.scales_l[g / 2] >> (g % 2 * 4) & 15, high = b.scales_h >> (g * 2) & 3;
    scales[g] = static_cast<uint8_t>(low | high << 4);
  }
  put_sixes<8>(out + 32, r, scales);
  for (int g = 0; g < 8; ++g) put_nibbles(out + 128 + 256 * g, r, b.qs + 16 * g);
}

// A panel of `rows` rows; the others become zero. Blocks are copied out: a mapped file may have any alignment.
template <class Block>
void pack_panel(const std::byte* stored, int64_t row_bytes, int rows, uint8_t* out) {
  constexpr int64_t kBlock = sizeof(Block), kPanelBlock = kPanelRows * kBlock;
  const int64_t blocks = row_bytes / kBlock;
  if (rows < kPanelRows) std::memset(out, 0, static_cast<size_t>(kPanelRows * row_bytes));
  for (int64_t i = 0; i < blocks; ++i) {
    for (int r = 0; r < rows; ++r) {
      Block block;
      std::memcpy(&block, stored + r * row_bytes + i * kBlock, sizeof(Block));
      put(out + i * kPanelBlock, r, block);
    }
  }
}

using PackPanel = void (*)(const std::byte*, int64_t, int, uint8_t*);

// In the order of QuantType.
constexpr PackPanel kPackPanel[kQuantTypes] = {pack_panel<BlockQ4_0>, pack_panel<BlockQ4_1>,   pack_panel<BlockQ5_0>,
                                               pack_panel<BlockQ5_1>, pack_panel<BlockQ8_0>,   pack_panel<BlockQ2_K>,
                                               pack_panel<BlockQ3_K>, pack_panel<BlockQ4_K>,   pack_panel<BlockQ5_K>,
                                               pack_panel<BlockQ6_K>, pack_panel<BlockIQ4_NL>, pack_panel<BlockIQ4_XS>,
                                               pack_panel<BlockMXFP4>};

int64_t packed_bytes(const LinearShape& shape) { return (shape.n + kPanelRows - 1) / kPanelRows * panel_bytes(shape); }

void repack(const LinearShape& shape, const std::byte* stored, std::byte* packed, int64_t row_begin, int64_t row_end) {
  BAIZE_CHECK(row_begin % kPanelRows == 0);
  const int64_t row_bytes = shape.format.row_bytes(shape.k);
  const PackPanel pack_panel_of_type = kPackPanel[quant_type(shape.format.block)];
  for (int64_t row = row_begin; row < row_end; row += kPanelRows) {
    const int rows = static_cast<int>(std::min<int64_t>(kPanelRows, row_end - row));
    pack_panel_of_type(stored + row * row_bytes, row_bytes, rows, reinterpret_cast<uint8_t*>(packed) + row * row_bytes);
  }
}

}  // namespace

const Pack kPackX16 = {"x16", packed_bytes, repack, kPanelRows};

QuantType quant_type(GgufType type) {
  return static_cast<QuantType>(std::find(kTypes, kTypes + kQuantTypes, type) - kTypes);
}

GgufType gguf_type(QuantType type) { return kTypes[type]; }

int64_t panel_bytes(const LinearShape& shape) { return kPanelRows * shape.format.row_bytes(shape.k); }

}  // namespace baize::cpu
