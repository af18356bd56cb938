// Matrix kernels on quantised weights and int8 activations (Compute::kAuto), for every type of linear_types.h:
// gemv multiplies straight from the packed blocks; gemm unpacks a stretch of 16 rows into the L1 cache and multiplies
// it by all columns. Sums of 32 products are exact integers; scales are applied in f32. Any thread.
#pragma once

#include "backend/cpu/isa/linear_types.h"

namespace baize::cpu::BAIZE_ISA {

// Weights wider than Dot takes are computed as two nibbles: value = low + 16 high, one pass each.
constexpr int passes(int bits) { return bits > kDotBits ? 2 : 1; }

// Where Dot is signed, 8-bit values (stored + 128) are centred first and need no correction.
constexpr bool centred(int bits) { return kDotSigned && bits == 8; }

template <int Bits, int Subs>
inline constexpr int kRunQuads =
    dot_adds(Bits > kDotBits ? 4 : Bits) < 8 / Subs ? dot_adds(Bits > kDotBits ? 4 : Bits) : 8 / Subs;

BAIZE_INLINE float load_f32(const uint8_t* p) {
  float f;
  __builtin_memcpy(&f, p, sizeof(f));
  return f;
}
BAIZE_INLINE int32_t load_i32(const uint8_t* p) {
  int32_t i;
  __builtin_memcpy(&i, p, sizeof(i));
  return i;
}

// ---- one column ----
// Sums of quads [First, First + Count) of a group times one column.
template <class T, int Pass, int First, int Count>
struct Run {
  static BAIZE_INLINE Bytes part(const uint8_t* b, int g) {
    const Bytes q = quad_part<T, First, Pass, passes(T::kBits)>(b, g);
    if constexpr (centred(T::kBits)) return centre(q);
    return q;
  }
  static BAIZE_INLINE void add(Dot& dot, const uint8_t* b, int g, const uint8_t* act) {
    dot.add(part(b, g), load_act(act + 4 * First));
    if constexpr (Count > 1) Run<T, Pass, First + 1, Count - 1>::add(dot, b, g, act);
  }
  static BAIZE_INLINE Ints sum(const uint8_t* b, int g, const uint8_t* act) {
    Dot dot = Dot::of(part(b, g), load_act(act + 4 * First));
    if constexpr (Count > 1) Run<T, Pass, First + 1, Count - 1>::add(dot, b, g, act);
    return dot.total();
  }
};

// As many runs as Dot needs.
template <class T, int Pass, int First, int Count>
BAIZE_INLINE Ints dot_quads(const uint8_t* b, int g, const uint8_t* act) {
  constexpr int kRun = kRunQuads<T::kBits, T::kSubs>;
  const Ints sum = Run<T, Pass, First, kRun>::sum(b, g, act);
  if constexpr (Count > kRun) return sum + dot_quads<T, Pass, First + kRun, Count - kRun>(b, g, act);
  return sum;
}

// What gemv sums: products with scales, and products of minima and activation sums.
struct Sums {
  Floats dot, min;
};

// sums += half-group (or group) S; of super-blocks without the block's own factors.
template <class T, int S>
BAIZE_INLINE void gemv_sub(const uint8_t* b, int g, const uint8_t* act, Sums& sums) {
  constexpr int kQuads = 8 / T::kSubs;
  const uint8_t* tail = act + kGroup;  // scale, corrections
  Ints sum = dot_quads<T, 0, S * kQuads, kQuads>(b, g, act);
  if constexpr (!T::kMin && !centred(T::kBits)) sum = sum + splat_int(load_i32(tail + 4 + 4 * S));
  Floats value = to_floats(sum);
  if constexpr (passes(T::kBits) == 2) {
    value = fma(to_floats(dot_quads<T, 1, S * kQuads, kQuads>(b, g, act)), splat(16), value);
  }
  const Floats act_scale = splat(load_f32(tail)), act_sum = splat(load_f32(tail + 4 + 4 * S));
  if constexpr (Super<T>) {
    sums.dot = fma(value * T::template sc<S>(b, g), act_scale, sums.dot);
    if constexpr (T::kMin) sums.min = fma(T::template mn<S>(b, g), act_sum, sums.min);
  } else {
    sums.dot = fma(value * T::template scale<S>(b, g), act_scale, sums.dot);
    if constexpr (T::kMin) sums.min = fma(T::template min<S>(b, g), act_sum, sums.min);
  }
  if constexpr (S + 1 < T::kSubs) gemv_sub<T, S + 1>(b, g, act, sums);
}

template <class T>
void gemv(const uint8_t* panel, int64_t k, const uint8_t* act, float* out) {
  constexpr int64_t kActBytes = act_group_bytes(1, T::kSubs);
  Sums total = {splat(0), splat(0)};
  for (int64_t i = 0; i < k; i += T::kBlock, panel += T::kBytes) {
    if constexpr (Super<T>) {
      Sums block = {splat(0), splat(0)};
      for (int g = 0; g < T::kBlock / kGroup; ++g, act += kActBytes) gemv_sub<T, 0>(panel, g, act, block);
      total.dot = fma(floats_of_f16(panel), block.dot, total.dot);
      if constexpr (T::kMin) total.min = fma(floats_of_f16(panel + 32), block.min, total.min);
    } else {
      gemv_sub<T, 0>(panel, 0, act, total);
      act += kActBytes;
    }
  }
  // The minima of super-blocks are subtracted.
  store_floats(out, !T::kMin ? total.dot : Super<T> ? total.dot - total.min : total.dot + total.min);
}

// ---- many columns ----
// An unpacked group: passes x 8 quads, then scales, then minima.
template <int Bits, int Subs, bool Min>
struct Unpacked {
  static constexpr int kPasses = passes(Bits);
  static constexpr int kScales = kPasses * 8 * 64;
  static constexpr int kMins = kScales + Subs * 64;
  static constexpr int kBytes = kMins + (Min ? Subs * 64 : 0);
};

// Groups that are unpacked at a time, at most: 14-18 KB of the L1 cache.
constexpr int chunk_groups(int bits) { return passes(bits) == 1 ? 24 : 16; }

template <class T, int J>
BAIZE_INLINE void unpack_quad(const uint8_t* b, int g, uint8_t* __restrict out) {
  constexpr int kPasses = passes(T::kBits);
  const Bytes q = quad_part<T, J, 0, kPasses>(b, g);
  store_bytes(out + 64 * J, centred(T::kBits) ? centre(q) : q);
  if constexpr (kPasses == 2) store_bytes(out + 64 * (8 + J), quad_part<T, J, 1, kPasses>(b, g));
}

template <class T>
BAIZE_INLINE void unpack_group(const uint8_t* b, int g, uint8_t* __restrict out) {
  using U = Unpacked<T::kBits, T::kSubs, T::kMin>;
  unpack_quad<T, 0>(b, g, out);
  unpack_quad<T, 4>(b, g, out);
  unpack_quad<T, 1>(b, g, out);
  unpack_quad<T, 5>(b, g, out);
  unpack_quad<T, 2>(b, g, out);
  unpack_quad<T, 6>(b, g, out);
  unpack_quad<T, 3>(b, g, out);
  unpack_quad<T, 7>(b, g, out);
  auto* scales = reinterpret_cast<float*>(out + U::kScales);
  store_floats(scales, scale_of<T, 0>(b, g));
  if constexpr (T::kSubs == 2) store_floats(scales + 16, scale_of<T, 1>(b, g));
  if constexpr (T::kMin) {
    auto* mins = reinterpret_cast<float*>(out + U::kMins);
    store_floats(mins, min_of<T, 0>(b, g));
    if constexpr (T::kSubs == 2) store_floats(mins + 16, min_of<T, 1>(b, g));
  }
}

// out[C][16] += an unpacked stretch of `groups` times a tile of C columns. `first`: out has no sum yet.
template <int Bits, int Subs, bool Min, int C>
__attribute__((noinline)) void gemm_tile(const uint8_t* w, int64_t groups, const uint8_t* act, float* out, bool first) {
  using U = Unpacked<Bits, Subs, Min>;
  constexpr int kQuads = 8 / Subs, kRun = kRunQuads<Bits, Subs>;
  Floats acc[C];
  BAIZE_UNROLL for (int c = 0; c < C; ++c) acc[c] = first ? splat(0) : load_floats(out + 16 * c);
  for (int64_t g = 0; g < groups; ++g, w += U::kBytes, act += act_group_bytes(C, Subs)) {
    const uint8_t* act_scale = act + C * kGroup;
    BAIZE_UNROLL for (int s = 0; s < Subs; ++s) {
      const Floats scale = load_floats(reinterpret_cast<const float*>(w + U::kScales) + 16 * s);
      const uint8_t* correction = act_scale + 4 * C * (1 + s);
      BAIZE_UNROLL for (int pass = 0; pass < U::kPasses; ++pass) {
        Ints sum[C] = {};
        BAIZE_UNROLL for (int run = 0; run < kQuads; run += kRun) {
          Dot dot[C] = {};
          BAIZE_UNROLL for (int j = 0; j < kRun; ++j) {
            const int quad = s * kQuads + run + j;
            const Bytes q = load_bytes(w + 64 * (8 * pass + quad));
            BAIZE_UNROLL for (int c = 0; c < C; ++c) {
              const Act4 a = load_act(act + 4 * (quad * C + c));
              if (j == 0) {
                dot[c] = Dot::of(q, a);
              } else {
                dot[c].add(q, a);
              }
            }
          }
          BAIZE_UNROLL for (int c = 0; c < C; ++c) sum[c] = run == 0 ? dot[c].total() : sum[c] + dot[c].total();
        }
        const Floats factor = pass == 0 ? scale : scale * splat(16);
        BAIZE_UNROLL for (int c = 0; c < C; ++c) {
          if (!Min && !centred(Bits) && pass == 0) sum[c] = sum[c] + splat_int(load_i32(correction + 4 * c));
          acc[c] = fma(to_floats(sum[c]) * factor, splat(load_f32(act_scale + 4 * c)), acc[c]);
        }
      }
      if constexpr (Min) {
        const Floats min = load_floats(reinterpret_cast<const float*>(w + U::kMins) + 16 * s);
        BAIZE_UNROLL for (int c = 0; c < C; ++c) acc[c] = fma(min, splat(load_f32(correction + 4 * c)), acc[c]);
      }
    }
  }
  BAIZE_UNROLL for (int c = 0; c < C; ++c) store_floats(out + 16 * c, acc[c]);
}

template <int Bits, int Subs, bool Min, int C>
BAIZE_INLINE void gemm_rest(int64_t cols, const uint8_t* w, int64_t groups, const uint8_t* act, float* out,
                            bool first) {
  if constexpr (C > 0) {
    if (cols == C) return gemm_tile<Bits, Subs, Min, C>(w, groups, act, out, first);
    gemm_rest<Bits, Subs, Min, C - 1>(cols, w, groups, act, out, first);
  }
}

template <class T>
void gemm(const uint8_t* panel, int64_t k, const uint8_t* act, int64_t cols, float* out) {
  using U = Unpacked<T::kBits, T::kSubs, T::kMin>;
  constexpr int kPerBlock = T::kBlock / kGroup;
  constexpr int kChunk = chunk_groups(T::kBits);
  alignas(64) uint8_t unpacked[kChunk * U::kBytes];
  // Chunks of about the same size, in whole blocks.
  const int64_t groups = k / kGroup, chunks = (groups + kChunk - 1) / kChunk;
  const int64_t chunk = ((groups + chunks - 1) / chunks + kPerBlock - 1) / kPerBlock * kPerBlock;
  for (int64_t begin = 0; begin < groups; begin += chunk) {
    const int64_t count = groups - begin < chunk ? groups - begin : chunk;
    for (int64_t g = 0; g < count; g += kPerBlock, panel += T::kBytes) {
      for (int i = 0; i < kPerBlock; ++i) unpack_group<T>(panel, i, unpacked + (g + i) * U::kBytes);
    }
    for (int64_t c = 0; c < cols; c += kTile) {
      const int64_t width = cols - c < kTile ? cols - c : kTile;
      const uint8_t* tile = act + act_group_bytes(1, T::kSubs) * (c * groups + begin * width);
      if (width == kTile) {
        gemm_tile<T::kBits, T::kSubs, T::kMin, kTile>(unpacked, count, tile, out + 16 * c, begin == 0);
      } else {
        gemm_rest<T::kBits, T::kSubs, T::kMin, kTile - 1>(width, unpacked, count, tile, out + 16 * c, begin == 0);
      }
    }
  }
}

// ---- activations ----
// Where x holds a NaN the sums mean nothing (the scale carries it), but must not overflow into undefined behaviour.
BAIZE_INLINE int32_t wrapping_add(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}
BAIZE_INLINE int32_t wrapping_times(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) * static_cast<uint32_t>(b));
}

inline void quantize(const float* x, int64_t x_stride, int cols, int64_t k, ActLayout layout, uint8_t* tile) {
  const auto store = [](uint8_t* p, auto v) { __builtin_memcpy(p, &v, sizeof(v)); };
  for (int64_t i = 0; i < k; i += kGroup, tile += act_group_bytes(cols, layout.subs)) {
    for (int c = 0; c < cols; ++c) {
      const float* values = x + c * x_stride + i;
      const uint32_t bits = max_magnitude_bits(values);
      float largest;
      __builtin_memcpy(&largest, &bits, sizeof(largest));
      // Groups that are zero, or too small to have an inverse, become zero. A NaN or an infinity is in the scale.
      const float inverse = largest > 1e-30f ? 127.0f / largest : 0.0f;
      const float scale = largest / 127.0f;
      alignas(32) int8_t q[kGroup];
      int32_t sums[2];
      quantize32(values, inverse, q, sums);
      for (int j = 0; j < 8; ++j) __builtin_memcpy(tile + 4 * (j * cols + c), q + 4 * j, 4);
      uint8_t* tail = tile + cols * kGroup + 4 * c;
      store(tail, scale);
      if (layout.subs == 1) sums[0] = wrapping_add(sums[0], sums[1]);
      for (int s = 0; s < layout.subs; ++s) {
        tail += 4 * cols;
        if (layout.offset > 0) {
          store(tail, wrapping_times(-layout.offset, sums[s]));
        } else {
          store(tail, scale * static_cast<float>(sums[s]));
        }
      }
    }
  }
}

}  // namespace baize::cpu::BAIZE_ISA
