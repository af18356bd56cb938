#include "backend/cpu/linear/run.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/linear/pack.h"
#include "backend/cpu/thread_pool.h"
#include "base/check.h"

namespace baize::cpu {

namespace {

// How a multiplication is cut up: pieces of `panels` times 16 weight rows and `columns` rows of x. The sums of a piece
// are on the stack, its columns (int8, f32 or bf16) in the L2 cache, one stretch of its unpacked weights in L1.
struct Cut {
  int panels;
  int64_t columns;
};
constexpr Cut kVectorCut = {1, 144};  // a multiple of every variant's tile: a stretch begins where a tile does
constexpr Cut kTileCut = {2, 256};  // weights cost more to unpack beside the speed of tiles, which share loads in pairs
constexpr int64_t kMaxSums = 2 * 256 * kPanelRows;
// Pieces are handed out in so many parts a thread, so that a core that is slowed down does not hold up the rest.
constexpr int64_t kPartsPerThread = 8;
// Rows along k of an f32 or bf16 panel on the stack: 16 KB.
constexpr int64_t kPanelK = 256, kTileK = 512;

struct Piece {
  const LinearCall& call;
  int64_t row;              // first weight row
  int panels, rows;         // rows: in the panels together
  int64_t column, columns;  // rows of x
  float* sums;              // [panels][cut.columns][16]
};

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

const float* x_row(const LinearCall& call, int64_t row) { return call.x.as<const float>() + row * call.x.strides[0]; }

// out = softcap(alpha * sums + bias), for one panel: `row` is its first weight row, of `rows`. Changes the sums.
void store_panel(const IsaLinear& isa, const Piece& piece, int64_t row, int rows, float* sums) {
  const Linear& linear = *piece.call.linear;
  const Tensor& out = piece.call.out;
  if (linear.alpha != 1 || linear.bias.present()) {
    float bias[kPanelRows] = {};
    if (linear.bias.present()) std::copy_n(linear.bias.as<const float>() + row, rows, bias);
    for (int64_t c = 0; c < piece.columns; ++c) {
      for (int r = 0; r < kPanelRows; ++r) sums[kPanelRows * c + r] = linear.alpha * sums[kPanelRows * c + r] + bias[r];
    }
  }
  if (const float cap = piece.call.epilogue.softcap; cap > 0) isa.softcap(sums, piece.columns, cap);
  for (int64_t c = 0; c < piece.columns; ++c) {
    float* to = out.as<float>() + (piece.column + c) * out.strides[0] + row;
    if (rows == kPanelRows) {
      std::copy_n(sums + kPanelRows * c, kPanelRows, to);  // of a known size: four stores
    } else {
      std::copy_n(sums + kPanelRows * c, rows, to);
    }
  }
}

int64_t pieces_of(const Linear& linear, const Cut& cut) {
  return round_up(linear.shape.n, cut.panels * kPanelRows) / (cut.panels * kPanelRows);
}

// Calls multiply(piece) and stores its sums, for every piece of every call. Pieces with the same columns follow each
// other.
template <typename Multiply>
void for_pieces(const IsaLinear& isa, ThreadPool& pool, std::span<const LinearCall> calls, const Cut& cut,
                const Multiply& multiply) {
  int64_t pieces = 0;
  for (const LinearCall& call : calls) {
    BAIZE_CHECK(call.x.dtype == DType::kF32 && call.out.dtype == DType::kF32);
    BAIZE_CHECK(call.x.strides[1] == 1 && call.out.strides[1] == 1);
    pieces += pieces_of(*call.linear, cut);
  }
  const int64_t m = calls[0].x.shape[0];
  const int64_t count = pieces * (round_up(m, cut.columns) / cut.columns);
  const int64_t grain = std::max<int64_t>(1, count / (kPartsPerThread * pool.size()));
  pool.parallel_for(count, grain, [&](int64_t begin, int64_t end) {
    alignas(64) float sums[kMaxSums];
    for (int64_t i = begin; i < end; ++i) {
      int64_t at = i % pieces;
      const LinearCall* call = calls.data();
      for (; at >= pieces_of(*call->linear, cut); ++call) at -= pieces_of(*call->linear, cut);
      const int64_t row = at * cut.panels * kPanelRows, column = i / pieces * cut.columns;
      const auto rows = static_cast<int>(std::min<int64_t>(cut.panels * kPanelRows, call->linear->shape.n - row));
      const int panels = (rows + kPanelRows - 1) / kPanelRows;
      const Piece piece{*call, row, panels, rows, column, std::min(cut.columns, m - column), sums};
      multiply(piece);
      for (int p = 0; p < panels; ++p) {
        store_panel(isa, piece, row + p * kPanelRows, std::min(kPanelRows, rows - p * kPanelRows),
                    sums + p * cut.columns * kPanelRows);
      }
    }
  });
}

ThreadPool& pool_of(Exec& exec) { return static_cast<CpuExec&>(exec).pool; }

const uint8_t* packed_panel(const Piece& piece) {
  const LinearShape& shape = piece.call.linear->shape;
  return piece.call.linear->w.as<const uint8_t>() + piece.row / kPanelRows * panel_bytes(shape);
}

}  // namespace

int64_t quant_workspace(const IsaLinear& isa, QuantType type, const LinearShape& shape, int64_t m) {
  return m * (shape.k / kGroup) * act_group_bytes(1, isa.quant[type].act.subs);
}

void run_quant(const IsaLinear& isa, QuantType type, Exec& exec, std::span<const LinearCall> calls, void* workspace,
               bool one) {
  ThreadPool& pool = pool_of(exec);
  const QuantLeaf& leaf = isa.quant[type];
  const int64_t m = calls[0].x.shape[0], k = calls[0].linear->shape.k;
  const int64_t row_bytes = k / kGroup * act_group_bytes(1, leaf.act.subs);
  auto* act = static_cast<uint8_t*>(workspace);
  pool.parallel_for((m + isa.tile - 1) / isa.tile, 4, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin * isa.tile; row < std::min(m, end * isa.tile); row += isa.tile) {
      const auto cols = static_cast<int>(std::min<int64_t>(isa.tile, m - row));
      isa.quantize(x_row(calls[0], row), calls[0].x.strides[0], cols, k, leaf.act, act + row * row_bytes);
    }
  });
  BAIZE_CHECK(kVectorCut.columns % isa.tile == 0);
  for_pieces(isa, pool, calls, kVectorCut, [&](const Piece& piece) {
    if (one) return leaf.gemv(packed_panel(piece), k, act, piece.sums);
    leaf.gemm(packed_panel(piece), k, act + piece.column * row_bytes, piece.columns, piece.sums);
  });
}

void run_exact(const IsaLinear& isa, QuantType type, Exec& exec, std::span<const LinearCall> calls) {
  const QuantLeaf& leaf = isa.quant[type];
  const int64_t k = calls[0].linear->shape.k;
  for_pieces(isa, pool_of(exec), calls, kVectorCut, [&](const Piece& piece) {
    alignas(64) float panel[kPanelK * kPanelRows];
    std::memset(piece.sums, 0, static_cast<size_t>(piece.columns) * kPanelRows * sizeof(float));
    for (int64_t i = 0; i < k; i += kPanelK) {
      const int64_t count = std::min(kPanelK, k - i);
      leaf.dequantize(packed_panel(piece), i, i + count, panel);
      isa.gemm_f32(panel, count, x_row(piece.call, piece.column) + i, piece.call.x.strides[0], piece.columns,
                   piece.sums);
    }
  });
}

void run_plain(const IsaLinear& isa, PlainType type, Exec& exec, std::span<const LinearCall> calls, bool dot) {
  const PlainLeaf& leaf = isa.plain[type];
  const LinearShape& shape = calls[0].linear->shape;
  const int64_t k = shape.k, row_bytes = shape.format.row_bytes(k), elem_bytes = dtype_bytes(shape.format.elem);
  for_pieces(isa, pool_of(exec), calls, kVectorCut, [&](const Piece& piece) {
    const uint8_t* w = piece.call.linear->w.as<const uint8_t>() + piece.row * row_bytes;
    const float* x = x_row(piece.call, piece.column);
    const int64_t x_stride = piece.call.x.strides[0];
    if (dot) return leaf.dot(w, row_bytes, piece.rows, k, x, x_stride, piece.columns, piece.sums);
    alignas(64) float panel[kPanelK * kPanelRows];
    std::memset(piece.sums, 0, static_cast<size_t>(piece.columns) * kPanelRows * sizeof(float));
    for (int64_t i = 0; i < k; i += kPanelK) {
      const int64_t count = std::min(kPanelK, k - i);
      leaf.transpose(w + i * elem_bytes, row_bytes, piece.rows, count, panel);
      isa.gemm_f32(panel, count, x + i, x_stride, piece.columns, piece.sums);
    }
  });
}

void run_fp8(const IsaLinear& isa, Exec& exec, std::span<const LinearCall> calls, bool dot) {
  const LinearShape& shape = calls[0].linear->shape;
  const int64_t k = shape.k, row_bytes = shape.format.row_bytes(k);
  const int64_t group = shape.format.group == 0 ? k : shape.format.group;
  for_pieces(isa, pool_of(exec), calls, kVectorCut, [&](const Piece& piece) {
    const uint8_t* w = piece.call.linear->w.as<const uint8_t>() + piece.row * row_bytes;
    const float* x = x_row(piece.call, piece.column);
    const int64_t x_stride = piece.call.x.strides[0];
    std::memset(piece.sums, 0, static_cast<size_t>(piece.columns) * kPanelRows * sizeof(float));
    alignas(64) float panel[kPanelK * kPanelRows], part[kVectorCut.columns * kPanelRows];
    for (int64_t g = 0; g * group < k; ++g) {
      float scales[kPanelRows] = {};
      for (int r = 0; r < piece.rows; ++r) {
        std::memcpy(&scales[r], w + r * row_bytes + QuantFormat::scales_offset(k) + g * 4, sizeof(float));
      }
      const int64_t begin = g * group, end = std::min(k, begin + group);
      if (dot) {
        isa.fp8.dot(w + begin, row_bytes, piece.rows, end - begin, x + begin, x_stride, piece.columns, part);
        for (int64_t c = 0; c < piece.columns; ++c) {
          for (int r = 0; r < piece.rows; ++r) piece.sums[kPanelRows * c + r] += scales[r] * part[kPanelRows * c + r];
        }
        continue;
      }
      for (int64_t i = begin; i < end; i += kPanelK) {
        const int64_t count = std::min(kPanelK, end - i);
        isa.fp8.transpose(w + i, row_bytes, piece.rows, count, panel);
        for (int64_t j = 0; j < count * kPanelRows; ++j) panel[j] *= scales[j % kPanelRows];
        isa.gemm_f32(panel, count, x + i, x_stride, piece.columns, piece.sums);
      }
    }
  });
}

int64_t tile_workspace(const LinearShape& shape, int64_t m) {
  return round_up(m, 32) * round_up(shape.k, 32) * static_cast<int64_t>(sizeof(uint16_t));
}

namespace {

// unpack(piece, panel, k_begin, k_count, out) gives bf16 pairs.
template <typename Unpack>
void run_tiles(const IsaLinear& isa, Exec& exec, std::span<const LinearCall> calls, void* workspace,
               const Unpack& unpack) {
  ThreadPool& pool = pool_of(exec);
  const int64_t m = calls[0].x.shape[0], k = calls[0].linear->shape.k, padded = round_up(k, 32);
  auto* act = static_cast<uint16_t*>(workspace);
  pool.parallel_for(round_up(m, 32), 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      isa.tiles.to_bf16(x_row(calls[0], std::min(row, m - 1)), k, padded, act + row * padded);  // past m: any values
    }
  });
  for_pieces(isa, pool, calls, kTileCut, [&](const Piece& piece) {
    alignas(64) uint16_t w[2 * kTileK * kPanelRows];
    for (int64_t i = 0; i < padded; i += kTileK) {
      const int64_t count = std::min(kTileK, padded - i);
      for (int p = 0; p < piece.panels; ++p) unpack(piece, p, i, count, w + p * kTileK * kPanelRows);
      isa.tiles.gemm(w, kTileK * kPanelRows, piece.panels, count, act + piece.column * padded + i, padded,
                     round_up(piece.columns, 32), piece.sums, kTileCut.columns * kPanelRows, i == 0);
    }
  });
}

}  // namespace

void run_quant_tiles(const IsaLinear& isa, QuantType type, Exec& exec, std::span<const LinearCall> calls,
                     void* workspace) {
  run_tiles(isa, exec, calls, workspace, [&](const Piece& piece, int p, int64_t begin, int64_t count, uint16_t* w) {
    const uint8_t* panel = packed_panel(piece) + p * panel_bytes(piece.call.linear->shape);
    isa.tiles.dequantize[type](panel, begin, begin + count, w);
  });
}

void run_plain_tiles(const IsaLinear& isa, PlainType type, Exec& exec, std::span<const LinearCall> calls,
                     void* workspace) {
  const LinearShape& shape = calls[0].linear->shape;
  const int64_t row_bytes = shape.format.row_bytes(shape.k), elem_bytes = dtype_bytes(shape.format.elem);
  run_tiles(isa, exec, calls, workspace, [&](const Piece& piece, int p, int64_t begin, int64_t count, uint16_t* w) {
    const int64_t row = piece.row + p * kPanelRows;
    const uint8_t* rows = piece.call.linear->w.as<const uint8_t>() + row * row_bytes + begin * elem_bytes;
    isa.tiles.transpose[type](rows, row_bytes, std::min(kPanelRows, piece.rows - p * kPanelRows),
                              std::min(count, shape.k - begin), count, w);
  });
}

}  // namespace baize::cpu
