// How attention is cut: a sequence with few query rows becomes one item a (key head, key tile), so that even one row
// occupies every thread, and the last thread to finish a head combines its tiles; a sequence with many rows becomes one
// item a (key head, block of rows), the longest first. Partial results of many long sequences would take much memory:
// such a batch is done in several goes. One kernel takes all rows where results may not depend on the batch.
#include <algorithm>

#include "backend/cpu/cpu_ops.h"
#include "base/check.h"

namespace baize::cpu {

namespace {
constexpr int64_t kSerialWork = 65536;   // multiply-adds below which the calling thread does all
constexpr int64_t kBlockFloats = 24576;  // query floats of a block of rows: keeps its sums and queries in the L2 cache

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
constexpr int64_t kPartialFloats = int64_t{4} << 20;  // of partial results in one go, unless a sequence has more
}  // namespace

// Rows of one sequence that count as few: their (row, head) pairs fit the few-rows kernel.
int64_t CpuOps::few_rows(const AttnShape& shape) const {
  return invariant_ ? 0 : std::max<int64_t>(1, kFewQueries / (shape.heads / shape.kv_heads));
}

/// One call, and its temporary memory.
struct CpuOps::AttnCall {
  const AttnArgs& args;
  const Tensor& q;
  const KvView& kv;
  const Tensor& out;
  int64_t max_block_rows;  // rows of a block of the many-rows kernel, at most
  int64_t scratch_floats;  // a thread
  int64_t max_partials;    // in one go
  float* scratch = nullptr;
  float* partials = nullptr;

  int64_t group() const { return args.shape.heads / args.shape.kv_heads; }
  int64_t partial_floats() const { return cpu::partial_floats(args.shape.head_dim); }
};

void CpuOps::do_attention(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) {
  const StepInput& step = input();
  const AttnShape& shape = args.shape;
  const int64_t group = shape.heads / shape.kv_heads;
  AttnCall call{args, q, kv, out, 0, 0, 0};

  // Memory follows from the step's extents alone, so that a dry step asks for the same.
  const Scope scope(*this);
  const int64_t few = few_rows(shape);
  const int64_t seen = args.window > 0 ? std::min(step.max_kv_len, args.window + few - 1) : step.max_kv_len;
  const int64_t tiles = std::min((step.max_kv_len + kKeyTile - 1) / kKeyTile, (seen + kKeyTile - 2) / kKeyTile + 1);
  const int64_t most = std::min(step.rows, step.seqs * few) * shape.heads * tiles;
  const int64_t of_one = std::min(step.rows, few) * shape.heads * tiles;
  call.max_partials = std::min(most, std::max(of_one, kPartialFloats / call.partial_floats()));
  const Tensor partial_memory = temp(DType::kF32, {call.max_partials * call.partial_floats()});
  call.max_block_rows = std::max<int64_t>(1, std::min(step.rows, kBlockFloats / shape.head_dim / group));
  if (few == 0 || (step.rows > step.seqs && step.rows > few)) {
    call.scratch_floats = round_up(kernels_.attend_many_scratch(call.max_block_rows * group, shape.head_dim), 64);
  }
  const Tensor scratch_memory = temp(DType::kF32, {call.scratch_floats * pool_.size()});
  if (dry()) return;
  BAIZE_DCHECK(q.dtype == DType::kF32);
  BAIZE_DCHECK(q.strides[2] == 1);
  BAIZE_DCHECK(kv.k.strides[3] == 1);
  call.partials = partial_memory.as<float>();
  call.scratch = scratch_memory.as<float>();

  for (int64_t seq = 0; seq < step.seqs;) {
    seq = plan_attention(call, seq);
    run_items(call);
  }
}

void CpuOps::run_items(const AttnCall& call) {
  const auto count = static_cast<int64_t>(items_.size());
  if (count == 1 || work_ < kSerialWork) {
    for (const AttnItem& item : items_) run_item(call, item, call.scratch);
    return;
  }
  std::atomic<int64_t> next{0};
  pool_.run([&](int thread, int) {
    float* scratch = call.scratch + thread * call.scratch_floats;
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
      run_item(call, items_[static_cast<size_t>(i)], scratch);
    }
  });
}

// Plans sequences from `begin` on, as far as their partial results find room; returns the first left out.
int64_t CpuOps::plan_attention(const AttnCall& call, int64_t begin) {
  items_.clear();
  groups_.clear();
  work_ = 0;
  const int32_t* q_start = input().q_start.as<const int32_t>();
  const int64_t few = few_rows(call.args.shape);
  int64_t end = begin, partials = 0;
  for (; end < input().seqs; ++end) {
    const int64_t rows = q_start[end + 1] - q_start[end];
    if (rows > few) {
      plan_many(call, end, q_start[end], rows);
    } else {
      partials += partials_of(call, end);
      if (partials > call.max_partials) break;
    }
  }
  for (int64_t seq = begin; seq < end; ++seq) {
    const int64_t rows = q_start[seq + 1] - q_start[seq];
    if (rows > 0 && rows <= few) plan_few(call, seq, q_start[seq], rows);
  }
  if (groups_.size() > unfinished_size_) {
    unfinished_size_ = groups_.size() * 2;
    unfinished_ = std::make_unique<std::atomic<int64_t>[]>(unfinished_size_);
  }
  for (size_t i = 0; i < groups_.size(); ++i) unfinished_[i].store(groups_[i].tiles, std::memory_order_relaxed);
  return end;
}

// Partial results of a sequence with few rows.
int64_t CpuOps::partials_of(const AttnCall& call, int64_t seq) const {
  const int32_t* q_start = input().q_start.as<const int32_t>();
  const int64_t rows = q_start[seq + 1] - q_start[seq];
  if (rows == 0) return 0;
  const int32_t* positions = input().positions.as<const int32_t>() + q_start[seq];
  const int64_t first_key = call.args.window > 0 ? std::max<int64_t>(0, positions[0] - call.args.window + 1) : 0;
  return rows * call.args.shape.heads * (positions[rows - 1] / kKeyTile - first_key / kKeyTile + 1);
}

void CpuOps::plan_few(const AttnCall& call, int64_t seq, int64_t first_row, int64_t rows) {
  const int32_t* positions = input().positions.as<const int32_t>();
  const AttnShape& shape = call.args.shape;
  const int64_t first_key =
      call.args.window > 0 ? std::max<int64_t>(0, positions[first_row] - call.args.window + 1) : 0;
  const int64_t last_key = positions[first_row + rows - 1];
  const int64_t first_tile = first_key / kKeyTile;
  const int64_t tiles = last_key / kKeyTile - first_tile + 1;
  int64_t partial = groups_.empty() ? 0 : groups_.back().end_partial;
  for (int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
    for (int64_t head = 0; head < call.group(); head += kFewQueries) {
      const int64_t heads = std::min(kFewQueries, call.group() - head);
      const auto group = static_cast<int64_t>(groups_.size());
      for (int64_t tile = first_tile; tile < first_tile + tiles; ++tile) {
        items_.push_back({seq, kv_head, first_row, rows, head, heads, tile, group});
      }
      const int64_t end_partial = partial + tiles * rows * heads;
      groups_.push_back({first_tile, tiles, partial, end_partial});
      partial = end_partial;
    }
  }
  work_ += 2 * rows * shape.heads * shape.head_dim * (last_key - first_key + 1);
}

void CpuOps::plan_many(const AttnCall& call, int64_t seq, int64_t first_row, int64_t rows) {
  const AttnShape& shape = call.args.shape;
  // Blocks small enough for every thread to get several, large enough to make packing the keys worth while.
  constexpr int64_t kItemsPerThread = 3;
  constexpr int64_t kLeastQueries = 48;
  const int64_t least = std::min(call.max_block_rows, (kLeastQueries + call.group() - 1) / call.group());
  const int64_t wanted = rows * shape.kv_heads / (kItemsPerThread * pool_.size());
  const int64_t block_rows = std::clamp(wanted, least, call.max_block_rows);
  for (int64_t end = rows; end > 0; end -= block_rows) {
    const int64_t begin = std::max<int64_t>(0, end - block_rows);
    for (int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
      items_.push_back({seq, kv_head, first_row + begin, end - begin, 0, call.group(), -1, -1});
    }
  }
  work_ += kSerialWork;
}

void CpuOps::run_item(const AttnCall& call, const AttnItem& item, float* scratch) {
  const auto& [args, q, kv, out, max_block_rows, scratch_floats, max_partials, all_scratch, partials] = call;
  const bool f16 = kv.k.dtype == DType::kF16;
  const auto head_cache = [&](const Tensor& view) {
    const char* data = static_cast<const char*>(view.data) + item.kv_head * view.strides[2] * dtype_bytes(view.dtype);
    return HeadCache{data, view.strides[0], view.strides[1]};
  };
  const int64_t head = item.kv_head * call.group() + item.first_head;
  const Tensor& table = input().block_tables[static_cast<size_t>(kv.group)];
  const AttnTask task = {
      .k = head_cache(kv.k),
      .v = head_cache(kv.v),
      .f16 = f16,
      .table = table.as<const int32_t>() + item.seq * table.strides[0],
      .block = kv.k.shape[1],
      .head_dim = args.shape.head_dim,
      .window = args.window,
      .scale = args.scale,
      .softcap = args.softcap,
      .q = q.as<const float>() + item.first_row * q.strides[0] + head * q.strides[1],
      .out = out.as<float>() + item.first_row * out.strides[0] + head * out.strides[1],
      .q_row = q.strides[0],
      .q_head = q.strides[1],
      .out_row = out.strides[0],
      .out_head = out.strides[1],
      .positions = input().positions.as<const int32_t>() + item.first_row,
      .rows = item.rows,
      .group = item.heads,
  };
  if (item.tile < 0) {
    kernels_.attend_many(task, scratch);
    return;
  }
  const TileGroup& group = groups_[static_cast<size_t>(item.group)];
  const int64_t partial = group.partial + (item.tile - group.first_tile) * item.rows * item.heads;
  kernels_.attend_few(task, item.tile, partials + partial * call.partial_floats(), call.partial_floats());
  if (unfinished_[static_cast<size_t>(item.group)].fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const int64_t queries = item.rows * item.heads;
  for (int64_t j = 0; j < queries; ++j) {
    kernels_.combine(partials + (group.partial + j) * call.partial_floats(), group.tiles,
                     queries * call.partial_floats(), args.shape.head_dim,
                     task.out + j / item.heads * task.out_row + j % item.heads * task.out_head);
  }
}

}  // namespace baize::cpu
