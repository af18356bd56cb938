// Attention of many query rows (prompts): limited by arithmetic. Keys and values of a tile are packed once as f32
// panels for all queries of the task; scores and weighted sums are then the same small matrix product, with the online
// softmax between them (FlashAttention: Dao et al. 2022). Tiles that no query of a group sees are skipped.
#include "backend/cpu/isa/attention.h"

namespace baize::cpu::BAIZE_ISA {

namespace {

// The product's block of results lives in registers: kQueries rows of kPanel columns.
#if defined(__AVX512F__)
constexpr int kQueries = 12, kVectors = 2;
#elif defined(__AVX2__)
constexpr int kQueries = 6, kVectors = 2;
#elif defined(__aarch64__)
constexpr int kQueries = 6, kVectors = 4;
#else
constexpr int kQueries = 3, kVectors = 4;
#endif
constexpr int64_t kPanel = int64_t{kVectors} * kLanes;
static_assert(kKeyTile % kPanel == 0);

BAIZE_INLINE int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// c = a * b, or c += a * b. a: kQueries rows; b: `depth` rows of a panel; c: kQueries rows.
template <bool kAdd>
BAIZE_INLINE void multiply_block(const float* a, int64_t a_row, const float* b, int64_t depth, float* c,
                                 int64_t c_row) {
  F32 acc[kQueries][kVectors];
#pragma GCC unroll 12
  for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[i][v] = kAdd ? load(c + i * c_row + v * kLanes) : F32{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    F32 panel[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) panel[v] = load(b + k * kPanel + v * kLanes);
#pragma GCC unroll 12
    for (int i = 0; i < kQueries; ++i) {
      const F32 x = broadcast(a[i * a_row + k]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[i][v] = fma(x, panel[v], acc[i][v]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kQueries; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(c + i * c_row + v * kLanes, acc[i][v]);
  }
}

// Where a task's data lies in its scratch memory.
struct Layout {
  Layout(int64_t count, int64_t head_dim)
      : dim(head_dim), padded_dim(round_up(head_dim, kPanel)), queries(round_up(count, kQueries)) {
    const int64_t sizes[] = {queries * dim,        kKeyTile * dim,      kKeyTile * padded_dim,
                             queries * padded_dim, kQueries * kKeyTile, 2 * queries};
    int64_t at = 0;
    for (int i = 0; i < 6; ++i) {
      begin[i] = at;
      at += round_up(sizes[i], 16);
    }
    total = at;
  }
  int64_t dim, padded_dim, queries;
  int64_t begin[6];
  int64_t total;
};

struct Scratch {
  Scratch(const Layout& l, float* p)
      : q(p + l.begin[0]),
        keys(p + l.begin[1]),
        values(p + l.begin[2]),
        sums(p + l.begin[3]),
        scores(p + l.begin[4]),
        highest(p + l.begin[5]),
        totals(p + l.begin[5] + l.queries) {}
  float* q;        // [queries][dim], scaled
  float* keys;     // [kKeyTile / kPanel][dim][kPanel]
  float* values;   // [padded_dim / kPanel][kKeyTile][kPanel]
  float* sums;     // [queries][padded_dim]
  float* scores;   // [kQueries][kKeyTile]
  float* highest;  // [queries]
  float* totals;   // [queries]
};

// Keys, transposed into panels; rows outside `range` become zeros.
template <typename Element>
void pack_keys(const Element* const* rows, Range range, int64_t dim, float* packed) {
  const auto read = [&](int64_t t, int64_t d) -> F32 {
    if (t < range.begin || t >= range.end) return F32{};
    return d + kLanes <= dim ? load(rows[t] + d) : load_part(rows[t] + d, dim - d, 0);
  };
  for (int64_t t = range.begin / kPanel * kPanel; t < round_up(range.end, kPanel); t += kLanes) {
    float* panel = packed + t / kPanel * kPanel * dim + t % kPanel;
    for (int64_t d = 0; d < dim; d += kLanes) {
      F32 square[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) square[i] = read(t + i, d);
      transpose(square);
      if (d + kLanes <= dim) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(panel + (d + i) * kPanel, square[i]);
      } else {
        for (int64_t i = 0; d + i < dim; ++i) store(panel + (d + i) * kPanel, square[i]);
      }
    }
  }
}

// Values, in panels of their dimensions; rows outside `range` and dimensions beyond `dim` become zeros.
template <typename Element>
void pack_values(const Element* const* rows, Range range, int64_t dim, float* packed) {
  for (int64_t t = range.begin / kPanel * kPanel; t < round_up(range.end, kPanel); ++t) {
    const bool present = t >= range.begin && t < range.end;
    for (int64_t d = 0; d < round_up(dim, kPanel); d += kLanes) {
      F32 v = {};
      if (present && d < dim) v = d + kLanes <= dim ? load(rows[t] + d) : load_part(rows[t] + d, dim - d, 0);
      store(packed + (d / kPanel * kKeyTile + t) * kPanel + d % kPanel, v);
    }
  }
}

// Softmax step of query `j`, whose scores stand in row `j` of the block: leaves the weights there (zero where it sees
// nothing of [begin, end)), rescales its sums.
BAIZE_INLINE void update_query(const AttnTask& task, const Layout& layout, const Scratch& s, int64_t j, Range seen,
                               Range block) {
  float* row = s.scores + j % kQueries * kKeyTile;
  if (seen.empty()) {
    for (int64_t t = block.begin; t < block.end; t += kLanes) store(row + t, F32{});
    return;
  }
  if (task.softcap > 0) scale_scores(row, seen, 1, task.softcap);
  const float before = s.highest[j];
  const TileSums result = exponentiate(row, seen, before);
  for (int64_t t = block.begin; t < seen.begin / kLanes * kLanes; t += kLanes) store(row + t, F32{});
  for (int64_t t = round_up(seen.end, kLanes); t < block.end; t += kLanes) store(row + t, F32{});
  if (result.highest != before) {
    const F32 factor = before == kNone ? F32{} : exp(broadcast(before - result.highest));
    float* sums = s.sums + j * layout.padded_dim;
    for (int64_t d = 0; d < layout.padded_dim; d += kLanes) store(sums + d, load(sums + d) * factor);
    s.totals[j] *= factor[0];
    s.highest[j] = result.highest;
  }
  s.totals[j] += result.sum;
}

// One packed tile for kQueries queries, the first being `j`.
void attend_block(const AttnTask& task, const Layout& layout, const Scratch& s, int64_t j, int64_t tile_begin) {
  const int64_t count = task.rows * task.group;
  const int64_t last = lower(j + kQueries, count) - 1;
  const Range seen = in_tile(visible_to_rows(task, j / task.group, last / task.group), tile_begin);
  if (seen.empty()) return;
  const Range block = {seen.begin / kPanel * kPanel, round_up(seen.end, kPanel)};
  for (int64_t t = block.begin; t < block.end; t += kPanel) {
    multiply_block<false>(s.q + j * layout.dim, layout.dim, s.keys + t * layout.dim, layout.dim, s.scores + t,
                          kKeyTile);
  }
  for (int64_t i = j; i < j + kQueries; ++i) {
    const Range own = i < count ? in_tile(visible(task, task.positions[i / task.group]), tile_begin) : Range{0, 0};
    update_query(task, layout, s, i, own, block);
  }
  for (int64_t d = 0; d < layout.padded_dim; d += kPanel) {
    multiply_block<true>(s.scores + block.begin, kKeyTile, s.values + (d / kPanel * kKeyTile + block.begin) * kPanel,
                         block.end - block.begin, s.sums + j * layout.padded_dim + d, layout.padded_dim);
  }
}

template <typename Element>
void attend(const AttnTask& task, const Layout& layout, const Scratch& s) {
  const Range all = visible_to_rows(task, 0, task.rows - 1);
  const Element* rows[kKeyTile];
  for (int64_t tile_begin = all.begin / kKeyTile * kKeyTile; tile_begin < all.end; tile_begin += kKeyTile) {
    const Range range = in_tile(all, tile_begin);
    find_rows(task, task.k, range, tile_begin, rows);
    pack_keys(rows, range, layout.dim, s.keys);
    find_rows(task, task.v, range, tile_begin, rows);
    pack_values(rows, range, layout.dim, s.values);
    for (int64_t j = 0; j < layout.queries; j += kQueries) attend_block(task, layout, s, j, tile_begin);
  }
}

}  // namespace

int64_t attend_many_scratch(int64_t queries, int64_t head_dim) { return Layout(queries, head_dim).total; }

void attend_many(const AttnTask& task, float* scratch) {
  const int64_t count = task.rows * task.group;
  const Layout layout(count, task.head_dim);
  const Scratch s(layout, scratch);
  for (int64_t j = 0; j < layout.queries; ++j) {
    const float* q = task.q + j / task.group * task.q_row + j % task.group * task.q_head;
    for (int64_t d = 0; d < layout.dim; ++d) s.q[j * layout.dim + d] = j < count ? q[d] * task.scale : 0.0f;
    for (int64_t d = 0; d < layout.padded_dim; ++d) s.sums[j * layout.padded_dim + d] = 0;
    s.highest[j] = kNone;
    s.totals[j] = 0;
  }
  if (task.f16) {
    attend<uint16_t>(task, layout, s);
  } else {
    attend<float>(task, layout, s);
  }
  for (int64_t j = 0; j < count; ++j) {
    float* out = task.out + j / task.group * task.out_row + j % task.group * task.out_head;
    const float inverse = 1.0f / s.totals[j];
    for (int64_t d = 0; d < layout.dim; ++d) out[d] = s.sums[j * layout.padded_dim + d] * inverse;
  }
}

}  // namespace baize::cpu::BAIZE_ISA
