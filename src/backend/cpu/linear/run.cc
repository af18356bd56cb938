#include "backend/cpu/linear/run.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/linear/pack.h"
#include "backend/cpu/thread_pool.h"
#include "base/check.h"

namespace baize::cpu {

namespace {

// Activation rows that one thread multiplies by a panel at a time: their int8 values stay in the L2 cache, the sums on
// the stack.
constexpr int64_t kColumns = 128;
// Panels are handed out in so many pieces a thread, so that a core that is slowed down does not hold up the rest.
constexpr int64_t kPiecesPerThread = 8;
// Rows along k of an f32 panel on the stack: 16 KB.
constexpr int64_t kPanelK = 256;

struct Piece {
  const LinearCall& call;
  int64_t panel;  // weight rows [16 panel, 16 panel + rows)
  int rows;
  int64_t column, columns;  // rows of x
  float* sums;              // [columns][16]
};

const float* x_row(const LinearCall& call, int64_t row) { return call.x.as<const float>() + row * call.x.strides[0]; }

// out = softcap(alpha * sums + bias)
void store(const Piece& piece) {
  const Linear& linear = *piece.call.linear;
  const Tensor& out = piece.call.out;
  const int64_t row = kPanelRows * piece.panel;
  const float cap = piece.call.epilogue.softcap;
  float bias[kPanelRows] = {};
  if (linear.bias.present()) std::copy_n(linear.bias.as<const float>() + row, piece.rows, bias);
  for (int64_t c = 0; c < piece.columns; ++c) {
    const float* sums = piece.sums + kPanelRows * c;
    float* to = out.as<float>() + (piece.column + c) * out.strides[0] + row;
    for (int r = 0; r < piece.rows; ++r) {
      const float value = linear.alpha * sums[r] + bias[r];
      to[r] = cap > 0 ? cap * std::tanh(value / cap) : value;
    }
  }
}

// Calls multiply(piece) for every panel of every call and every stretch of columns, then stores.
template <typename Multiply>
void for_pieces(ThreadPool& pool, std::span<const LinearCall> calls, const Multiply& multiply) {
  int64_t panels = 0;
  for (const LinearCall& call : calls) {
    BAIZE_CHECK(call.x.dtype == DType::kF32 && call.out.dtype == DType::kF32);
    BAIZE_CHECK(call.x.strides[1] == 1 && call.out.strides[1] == 1);
    panels += (call.linear->shape.n + kPanelRows - 1) / kPanelRows;
  }
  const int64_t m = calls[0].x.shape[0];
  const int64_t stretches = (m + kColumns - 1) / kColumns;
  const int64_t grain = std::max<int64_t>(1, panels * stretches / (kPiecesPerThread * pool.size()));
  pool.parallel_for(panels * stretches, grain, [&](int64_t begin, int64_t end) {
    alignas(64) float sums[kColumns * kPanelRows];
    for (int64_t i = begin; i < end; ++i) {
      int64_t panel = i % panels;
      const LinearCall* call = calls.data();
      for (;; ++call) {
        const int64_t here = (call->linear->shape.n + kPanelRows - 1) / kPanelRows;
        if (panel < here) break;
        panel -= here;
      }
      const int64_t column = i / panels * kColumns;
      const auto rows = static_cast<int>(std::min<int64_t>(kPanelRows, call->linear->shape.n - panel * kPanelRows));
      const Piece piece{*call, panel, rows, column, std::min(kColumns, m - column), sums};
      multiply(piece);
      store(piece);
    }
  });
}

ThreadPool& pool_of(Exec& exec) { return static_cast<CpuExec&>(exec).pool; }

const uint8_t* packed_panel(const Piece& piece) {
  return piece.call.linear->w.as<const uint8_t>() + piece.panel * panel_bytes(piece.call.linear->shape);
}

}  // namespace

int64_t quant_workspace(const IsaLinear& isa, QuantType type, const LinearShape& shape, int64_t m) {
  return m * (shape.k / kGroup) * act_group_bytes(1, isa.quant[type].act.subs);
}

void run_quant(const IsaLinear& isa, QuantType type, Exec& exec, std::span<const LinearCall> calls, void* workspace) {
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
  for_pieces(pool, calls, [&](const Piece& piece) {
    if (m == 1) return leaf.gemv(packed_panel(piece), k, act, piece.sums);
    leaf.gemm(packed_panel(piece), k, act + piece.column * row_bytes, piece.columns, piece.sums);
  });
}

void run_exact(const IsaLinear& isa, QuantType type, Exec& exec, std::span<const LinearCall> calls) {
  const QuantLeaf& leaf = isa.quant[type];
  const int64_t k = calls[0].linear->shape.k;
  for_pieces(pool_of(exec), calls, [&](const Piece& piece) {
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

void run_plain(const IsaLinear& isa, PlainType type, Exec& exec, std::span<const LinearCall> calls) {
  const PlainLeaf& leaf = isa.plain[type];
  const LinearShape& shape = calls[0].linear->shape;
  const int64_t k = shape.k, row_bytes = shape.format.row_bytes(k), elem_bytes = dtype_bytes(shape.format.elem);
  const bool few = calls[0].x.shape[0] <= kFewRows;
  for_pieces(pool_of(exec), calls, [&](const Piece& piece) {
    const uint8_t* w = piece.call.linear->w.as<const uint8_t>() + piece.panel * kPanelRows * row_bytes;
    const float* x = x_row(piece.call, piece.column);
    const int64_t x_stride = piece.call.x.strides[0];
    if (few) return leaf.dot(w, row_bytes, piece.rows, k, x, x_stride, piece.columns, piece.sums);
    alignas(64) float panel[kPanelK * kPanelRows];
    std::memset(piece.sums, 0, static_cast<size_t>(piece.columns) * kPanelRows * sizeof(float));
    for (int64_t i = 0; i < k; i += kPanelK) {
      const int64_t count = std::min(kPanelK, k - i);
      leaf.transpose(w + i * elem_bytes, row_bytes, piece.rows, count, panel);
      isa.gemm_f32(panel, count, x + i, x_stride, piece.columns, piece.sums);
    }
  });
}

}  // namespace baize::cpu
