// Where the fields of a GGUF block lie: in the stored layout (blocks one after another) and in the `planar` layout of
// this backend, in which a row keeps each field of all its blocks together, so that every load is aligned and wide.
// Source of the blocks: the GGUF specification. Immutable facts; host and device.
#pragma once

#include <cstdint>

#include "ops/linear.h"
#include "tensor/gguf_type.h"

namespace baize::cuda {

/// Fields of a block: a = low bits of the weights, b = high bits, c = scales of groups, d = scales of the block.
struct BlockMap {
  GgufType type = GgufType::kF32;
  bool planar = false;
  int elems = 1, bytes = 0;                    // of one block
  int at_a = 0, at_b = 0, at_c = 0, at_d = 0;  // offsets in a stored block
  int a = 0, b = 0, c = 0, d = 0;              // sizes
};

constexpr BlockMap block_map(GgufType type, bool planar = false) {
  switch (type) {
    case GgufType::kQ4_0:
      return {type, planar, 32, 18, 2, 0, 0, 0, 16, 0, 0, 2};
    case GgufType::kQ4_1:
      return {type, planar, 32, 20, 4, 0, 0, 0, 16, 0, 0, 4};
    case GgufType::kQ5_0:
      return {type, planar, 32, 22, 6, 2, 0, 0, 16, 4, 0, 2};
    case GgufType::kQ5_1:
      return {type, planar, 32, 24, 8, 4, 0, 0, 16, 4, 0, 4};
    case GgufType::kQ8_0:
      return {type, planar, 32, 34, 2, 0, 0, 0, 32, 0, 0, 2};
    case GgufType::kQ2_K:
      return {type, planar, 256, 84, 16, 0, 0, 80, 64, 0, 16, 4};
    case GgufType::kQ3_K:
      return {type, planar, 256, 110, 32, 0, 96, 108, 64, 32, 12, 2};
    case GgufType::kQ4_K:
      return {type, planar, 256, 144, 16, 0, 4, 0, 128, 0, 12, 4};
    case GgufType::kQ5_K:
      return {type, planar, 256, 176, 48, 16, 4, 0, 128, 32, 12, 4};
    case GgufType::kQ6_K:
      return {type, planar, 256, 210, 0, 128, 192, 208, 128, 64, 16, 2};
    case GgufType::kIQ4_NL:
      return {type, planar, 32, 18, 2, 0, 0, 0, 16, 0, 0, 2};
    case GgufType::kIQ4_XS:
      return {type, planar, 256, 136, 8, 0, 2, 0, 128, 0, 6, 2};
    case GgufType::kMXFP4:
      return {type, planar, 32, 17, 1, 0, 0, 0, 16, 0, 0, 1};
    case GgufType::kF32:
    case GgufType::kF16:
    case GgufType::kBF16:
      break;
  }
  return {};
}

constexpr int64_t align16(int64_t n) { return (n + 15) / 16 * 16; }

/// Weights of a unit: what a warp multiplies at a time, and what the planar layout keeps together.
inline constexpr int kUnitWeights = 1024;

/// A planar unit: offsets of the planes of its blocks' fields, and its length. Rows are whole units, padded with zeros.
struct PlanarUnit {
  int blocks = 0;
  int a = 0, b = 0, c = 0, d = 0, bytes = 0;
};
constexpr PlanarUnit planar_unit(const BlockMap& map) {
  PlanarUnit unit;
  unit.blocks = kUnitWeights / map.elems;
  unit.b = static_cast<int>(align16(unit.blocks * map.a));
  unit.c = unit.b + static_cast<int>(align16(unit.blocks * map.b));
  unit.d = unit.c + static_cast<int>(align16(unit.blocks * map.c));
  unit.bytes = unit.d + static_cast<int>(align16(unit.blocks * map.d));
  return unit;
}

/// Bytes of a whole unit in either layout.
constexpr int unit_bytes(const BlockMap& map) {
  return map.planar ? planar_unit(map).bytes : kUnitWeights / map.elems * map.bytes;
}

/// Bytes from one row of `k` weights to the next.
constexpr int64_t block_row_bytes(const BlockMap& map, int64_t k) {
  if (!map.planar) return k / map.elems * map.bytes;
  return (k + kUnitWeights - 1) / kUnitWeights * planar_unit(map).bytes;
}

}  // namespace baize::cuda
