// Attention of few query rows (decoding): limited by reading the cache, so each key and value is read and converted
// once for all queries of its head. One call covers one key tile; partial results of the tiles are combined after
// (flash decoding: Dao, Haziza, Massa, Sizov 2023).
#include "backend/cpu/isa/attention.h"

namespace baize::cpu::BAIZE_ISA {

namespace {

// Blocks of sums are cut so that they, the queries and one key or value fit the registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

using Scores = float[kFewQueries][kKeyTile];

// Scores of kKeys keys with kQueries queries: all sums are kept in registers over the head's dimensions.
template <int kKeys, int kQueries, typename Element>
BAIZE_INLINE void score(const Element* const* keys, const float* const* queries, int64_t dim,
                        float (*scores)[kKeyTile]) {
  F32 sums[kKeys][kQueries] = {};
  const auto step = [&](const auto& read_key, const auto& read_query) {
    F32 q[kQueries];
#pragma GCC unroll 4
    for (int j = 0; j < kQueries; ++j) q[j] = read_query(queries[j]);
#pragma GCC unroll 4
    for (int i = 0; i < kKeys; ++i) {
      const F32 k = read_key(keys[i]);
#pragma GCC unroll 4
      for (int j = 0; j < kQueries; ++j) sums[i][j] = fma(k, q[j], sums[i][j]);
    }
  };
  int64_t d = 0;
  for (; d + kLanes <= dim; d += kLanes) {
    const auto read = [d](const auto* row) { return load(row + d); };
    step(read, read);
  }
  if (d < dim) {
    const auto read = [d, dim](const auto* row) { return load_part(row + d, dim - d, 0); };
    step(read, read);
  }
#pragma GCC unroll 4
  for (int j = 0; j < kQueries; ++j) {
    if constexpr (kKeys == 4) {
      store_sums(scores[j], sums[0][j], sums[1][j], sums[2][j], sums[3][j]);
    } else {
      for (int i = 0; i < kKeys; ++i) scores[j][i] = sum(sums[i][j]);
    }
  }
}

// The rows of a tile come from main memory in pieces too short for the processor to foresee: asks for keys some way
// ahead, and for the values that the tile needs next.
constexpr int64_t kKeysAhead = 16;
template <int kKeys, typename Element>
BAIZE_INLINE void fetch_ahead(const Element* const* keys, const Element* const* values, int64_t t, int64_t end,
                              int64_t dim) {
  const auto bytes = dim * static_cast<int64_t>(sizeof(Element));
  for (int64_t i = t; i < t + kKeys; ++i) {
    if (i + kKeysAhead < end) prefetch(keys[i + kKeysAhead], bytes);
    prefetch(values[i], bytes);
  }
}

template <int kQueries, typename Element>
void score_tile(const Element* const* keys, const Element* const* values, Range range, const float* const* queries,
                int64_t dim, float (*scores)[kKeyTile]) {
  constexpr int kKeys = kQueries == 4 && kRegisters == 16 ? 2 : 4;
  int64_t t = range.begin;
  const auto column = [&] { return reinterpret_cast<float(*)[kKeyTile]>(&scores[0][t]); };
  for (; t + kKeys <= range.end; t += kKeys) {
    if (values != nullptr) fetch_ahead<kKeys>(keys, values, t, range.end, dim);
    score<kKeys, kQueries>(keys + t, queries, dim, column());
  }
  for (; t < range.end; ++t) score<1, kQueries>(keys + t, queries, dim, column());
}

// sums[j] += sum over t of weights[j][t] * values[t], for kVectors vectors of the value rows.
template <int kVectors, int kQueries, typename Element>
BAIZE_INLINE void weigh(const Element* const* values, Range range, int64_t d, const float (*weights)[kKeyTile],
                        float* const* sums) {
  F32 acc[kQueries][kVectors];
#pragma GCC unroll 4
  for (int j = 0; j < kQueries; ++j) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[j][v] = load(sums[j] + d + v * kLanes);
  }
  for (int64_t t = range.begin; t < range.end; ++t) {
    F32 p[kQueries];
#pragma GCC unroll 4
    for (int j = 0; j < kQueries; ++j) p[j] = broadcast(weights[j][t]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const F32 value = load(values[t] + d + v * kLanes);
#pragma GCC unroll 4
      for (int j = 0; j < kQueries; ++j) acc[j][v] = fma(p[j], value, acc[j][v]);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < kQueries; ++j) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(sums[j] + d + v * kLanes, acc[j][v]);
  }
}

template <int kQueries, typename Element>
void weigh_tile(const Element* const* values, Range range, int64_t dim, const float (*weights)[kKeyTile],
                float* const* sums) {
  constexpr int kVectors = kQueries == 4 && kRegisters == 16 ? 2 : 4;
  int64_t d = 0;
  for (; d + kVectors * kLanes <= dim; d += kVectors * kLanes) {
    weigh<kVectors, kQueries>(values, range, d, weights, sums);
  }
  for (; d + kLanes <= dim; d += kLanes) weigh<1, kQueries>(values, range, d, weights, sums);
  if (d == dim) return;
  for (int j = 0; j < kQueries; ++j) {
    F32 acc = {};
    for (int64_t t = range.begin; t < range.end; ++t) {
      acc = fma(broadcast(weights[j][t]), load_part(values[t] + d, dim - d, 0), acc);
    }
    store_part(sums[j] + d, dim - d, acc);
  }
}

// Runs f<n>(first query) over all queries in groups of 3 and 4, of 2 and 1 where it must be.
template <typename F>
BAIZE_INLINE void over_queries(int64_t count, const F& f) {
  int64_t j = 0;
  for (; (count - j) % 3 != 0 && (count - j) != 5 && count - j >= 4; j += 4) f.template operator()<4>(j);
  for (; count - j >= 3; j += 3) f.template operator()<3>(j);
  if (count - j == 2) f.template operator()<2>(j);
  if (count - j == 1) f.template operator()<1>(j);
}

template <typename Element>
void attend(const AttnTask& task, int64_t tile, float* partials, int64_t partial_stride) {
  const int64_t tile_begin = tile * kKeyTile;
  const Range range = in_tile(visible_to_rows(task, 0, task.rows - 1), tile_begin);
  const Element* keys[kKeyTile];
  const Element* values[kKeyTile];
  const int64_t count = task.rows * task.group;
  const float* queries[kFewQueries];
  float* sums[kFewQueries];
  alignas(64) Scores scores;
  for (int64_t j = 0; j < count; ++j) {
    queries[j] = task.q + j / task.group * task.q_row + j % task.group * task.q_head;
    sums[j] = partials + j * partial_stride + 2;
    for (int64_t t = 0; t < kKeyTile; t += kLanes) store(scores[j] + t, broadcast(kNone));
  }

  find_rows(task, task.k, range, tile_begin, keys);
  find_rows(task, task.v, range, tile_begin, values);
  over_queries(count, [&]<int kQueries>(int64_t j) {
    score_tile<kQueries>(keys, j == 0 ? values : nullptr, range, queries + j, task.head_dim, scores + j);
  });
  for (int64_t j = 0; j < count; ++j) {
    const Range seen = in_tile(visible(task, task.positions[j / task.group]), tile_begin);
    TileSums result{kNone, 0};
    if (!seen.empty()) {
      scale_scores(scores[j], seen, task.scale, task.softcap);
      result = exponentiate(scores[j], seen, kNone);
    }
    for (int64_t t = range.begin; t < lower(seen.begin, range.end); ++t) scores[j][t] = 0;
    for (int64_t t = upper(seen.end, range.begin); t < range.end; ++t) scores[j][t] = 0;
    sums[j][-2] = result.highest;
    sums[j][-1] = result.sum;
    for (int64_t d = 0; d < task.head_dim; ++d) sums[j][d] = 0;
  }
  over_queries(count, [&]<int kQueries>(int64_t j) {
    weigh_tile<kQueries>(values, range, task.head_dim, scores + j, sums + j);
  });
}

}  // namespace

void attend_few(const AttnTask& task, int64_t tile, float* partials, int64_t partial_stride) {
  if (task.f16) {
    attend<uint16_t>(task, tile, partials, partial_stride);
  } else {
    attend<float>(task, tile, partials, partial_stride);
  }
}

void combine(const float* partials, int64_t tiles, int64_t tile_stride, int64_t head_dim, float* out) {
  float top = kNone;
  for (int64_t i = 0; i < tiles; ++i) top = partials[i * tile_stride] > top ? partials[i * tile_stride] : top;
  float total = 0;
  for (int64_t d = 0; d < head_dim; ++d) out[d] = 0;
  for (int64_t i = 0; i < tiles; ++i) {
    const float* partial = partials + i * tile_stride;
    const float weight = exp(broadcast(partial[0] - top))[0];
    total += weight * partial[1];
    for (int64_t d = 0; d < head_dim; ++d) out[d] += weight * partial[2 + d];
  }
  const float inverse = 1.0f / total;
  for (int64_t d = 0; d < head_dim; ++d) out[d] *= inverse;
}

}  // namespace baize::cpu::BAIZE_ISA
