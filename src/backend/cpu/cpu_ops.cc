// The row-wise ops: how they are cut into pieces and threaded.
#include "backend/cpu/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "base/check.h"
#include "ops/dequant.h"
#include "ops/rope.h"

namespace baize::cpu {

namespace {

// Elements below which a parallel region (1 to 2 us) costs more than it saves, and of one piece of work.
constexpr int64_t kSerialElements = 16384;
constexpr int64_t kPieceElements = 8192;

float* row_of(const Tensor& t, int64_t r) { return t.as<float>() + r * t.strides[0]; }

void check_f32_rows(const Tensor& t) {
  BAIZE_DCHECK(t.dtype == DType::kF32);
  BAIZE_DCHECK(t.strides[1] == 1);
}

}  // namespace

template <typename Body>
void CpuOps::over_rows(int64_t rows, int64_t width, const Body& body) {
  if (rows * width < kSerialElements) {
    body(int64_t{0}, rows);
  } else {
    pool_.parallel_for(rows, std::max<int64_t>(1, kPieceElements / width), body);
  }
}

void CpuOps::over(int64_t count, int64_t cost, const std::function<void(int64_t, int64_t)>& body) {
  over_rows(count, std::max<int64_t>(1, cost), body);
}

void CpuOps::do_begin_step() { rope_tables_used_ = 0; }

void CpuOps::do_embed(const Embed& table, const Tensor& out) {
  if (dry()) return;
  check_f32_rows(out);
  const int64_t width = table.shape.k;
  const int64_t row_bytes = table.shape.format.row_bytes(width);
  over_rows(input().rows, width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t token = input().ids.as<const int32_t>()[r], id = token < table.shape.n ? token : 0;
      BAIZE_CHECK(token >= 0);
      dequantize_row(table.shape.format, table.w.as<const std::byte>() + id * row_bytes, width, row_of(out, r));
      if (table.alpha != 1) kernels_.multiply(row_of(out, r), table.alpha, width);
    }
  });
}

void CpuOps::do_linear(std::span<const LinearCall> calls, void* workspace) {
  if (dry()) return;
  CpuExec exec(pool_);
  calls[0].linear->kernel(calls[0].x.shape[0]).run(exec, calls, workspace);
}

void CpuOps::do_norm(const Tensor& x, const Norm& norm, const Tensor& out) {
  if (dry()) return;
  check_f32_rows(x);
  check_f32_rows(out);
  const int64_t width = x.shape[1];
  const float* weight = norm.weight.as<const float>();
  over_rows(x.shape[0], width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) kernels_.rms_norm(row_of(x, r), weight, norm.eps, width, row_of(out, r));
  });
}

void CpuOps::do_add(const Tensor& residual, const Tensor& x) {
  if (dry()) return;
  check_f32_rows(x);
  check_f32_rows(residual);
  const int64_t width = x.shape[1];
  over_rows(x.shape[0], width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) kernels_.add(row_of(residual, r), row_of(x, r), width);
  });
}

void CpuOps::do_add_norm(const Tensor& residual, const Tensor& x, const Norm& norm, const Tensor& out) {
  if (dry()) return;
  check_f32_rows(x);
  check_f32_rows(residual);
  check_f32_rows(out);
  const int64_t width = x.shape[1];
  const float* weight = norm.weight.as<const float>();
  over_rows(x.shape[0], 2 * width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      kernels_.add(row_of(residual, r), row_of(x, r), width);
      kernels_.rms_norm(row_of(residual, r), weight, norm.eps, width, row_of(out, r));
    }
  });
}

void CpuOps::do_gated_activation(const Tensor& gate_up, Activation activation, const Tensor& out) {
  if (dry()) return;
  check_f32_rows(gate_up);
  check_f32_rows(out);
  const int64_t ff = out.shape[1];
  if (out.shape[0] == 1) {  // one wide row: cut along it
    const float* gate = gate_up.as<const float>();
    const auto piece = [&](int64_t begin, int64_t end) {
      kernels_.gated(activation, gate + begin, gate + ff + begin, end - begin, out.as<float>() + begin);
    };
    pool_.parallel_for(ff, std::max(kSerialElements / 2, (ff / pool_.size() + 63) / 64 * 64), piece);
    return;
  }
  over_rows(out.shape[0], 2 * ff, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      kernels_.gated(activation, row_of(gate_up, r), row_of(gate_up, r) + ff, ff, row_of(out, r));
    }
  });
}

void CpuOps::do_gather_out_rows(const Tensor& x, const Tensor& out) {
  if (dry()) return;
  check_f32_rows(x);
  check_f32_rows(out);
  const int32_t* rows = input().out_rows.as<const int32_t>();
  over_rows(input().out_count, x.shape[1], [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(row_of(out, i), row_of(x, rows[i]), static_cast<size_t>(x.shape[1]) * sizeof(float));
    }
  });
}

void CpuOps::do_sample(const SampleArgs& args, const Tensor& logits) {
  if (dry()) return;
  // Filtering a vocabulary takes the memory of its candidates, and a worker must not throw.
  std::atomic<bool> no_memory{false};
  pool_.parallel_for(logits.shape[0], 1, [&](int64_t begin, int64_t end) {
    const auto first = static_cast<size_t>(begin), count = static_cast<size_t>(end - begin);
    try {
      sample_on_host({args.rows.subspan(first, count), args.out.subspan(first, count)},
                     logits.rows(begin, end - begin));
    } catch (const std::bad_alloc&) {
      no_memory = true;
    }
  });
  if (no_memory) throw std::bad_alloc();
}

const CpuOps::RopeTable& CpuOps::rope_table(const Rope& rope) {
  const auto same = [&](const RopeTable& table) {
    const Rope& other = table.rope;
    return other.inv_freq.data == rope.inv_freq.data && other.inv_freq.shape == rope.inv_freq.shape &&
           other.scale == rope.scale && other.dynamic_factor == rope.dynamic_factor && other.theta == rope.theta &&
           other.dynamic_length == rope.dynamic_length;
  };
  const auto used = rope_tables_.begin() + static_cast<ptrdiff_t>(rope_tables_used_);
  const auto found = std::find_if(rope_tables_.begin(), used, same);
  if (found != used) return *found;
  if (rope_tables_used_ == rope_tables_.size()) rope_tables_.emplace_back();
  RopeTable& table = rope_tables_[rope_tables_used_++];
  table.rope = rope;
  fill_rope_table(table);
  return table;
}

// Angles are f32 products and their functions exact, as in the reference.
void CpuOps::fill_rope_table(RopeTable& table) {
  const StepInput& step = input();
  const int64_t pairs = table.rope.inv_freq.shape[0];
  table.cosines.resize(static_cast<size_t>(step.rows * pairs));
  table.sines.resize(static_cast<size_t>(step.rows * pairs));
  constexpr int64_t kCost = 32;  // a sine counts as this many elements
  over_rows(step.rows, pairs * kCost, [&](int64_t begin, int64_t end) {
    std::vector<float> inv_freq;
    int64_t inv_freq_seq = -1;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t seq = step.row_seq.as<const int32_t>()[r];
      if (seq != inv_freq_seq) inv_freq = rope_frequencies(table.rope, step.kv_len.as<const int32_t>()[seq]);
      inv_freq_seq = seq;
      const auto position = static_cast<float>(step.positions.as<const int32_t>()[r]);
      for (int64_t i = 0; i < pairs; ++i) {
        const double angle = position * inv_freq[static_cast<size_t>(i)];
        table.cosines[static_cast<size_t>(r * pairs + i)] = static_cast<float>(std::cos(angle)) * table.rope.scale;
        table.sines[static_cast<size_t>(r * pairs + i)] = static_cast<float>(std::sin(angle)) * table.rope.scale;
      }
    }
  });
}

void CpuOps::store_row(const Tensor& view, int64_t offset, const float* values, int64_t count) {
  if (view.dtype == DType::kF16) {
    kernels_.to_f16(values, count, view.as<uint16_t>() + offset);
  } else {
    std::memcpy(view.as<float>() + offset, values, static_cast<size_t>(count) * sizeof(float));
  }
}

struct CpuOps::QkvCall {
  const QkvArgs& args;
  const RopeTable* table;  // null: no rotation
  const Tensor& qkv;
  const KvView& kv;
  const Tensor& q;
};

// `head` holds one head.
void CpuOps::norm_rope_store_row(const QkvCall& call, int64_t r, float* head) {
  const auto& [args, table, qkv, kv, q] = call;
  const auto& [heads, kv_heads, head_dim] = args.shape;
  const float* row = row_of(qkv, r);
  const int64_t pairs = table != nullptr ? args.rope.inv_freq.shape[0] : 0;
  const auto prepare = [&](const Norm& norm, const float* in, float* out) {
    if (norm.present()) {
      kernels_.rms_norm(in, norm.weight.as<const float>(), norm.eps, head_dim, out);
    } else {
      std::memcpy(out, in, static_cast<size_t>(head_dim) * sizeof(float));
    }
    if (table == nullptr) return;
    kernels_.rotate(out, table->cosines.data() + r * pairs, table->sines.data() + r * pairs, pairs,
                    args.rope.interleaved);
  };
  for (int64_t h = 0; h < heads; ++h) {
    prepare(args.q_norm, row + h * head_dim, q.as<float>() + r * q.strides[0] + h * q.strides[1]);
  }
  const int64_t position = input().positions.as<const int32_t>()[r];
  const int64_t seq = input().row_seq.as<const int32_t>()[r];
  const Tensor& blocks = input().block_tables[static_cast<size_t>(kv.group)];
  const int64_t block = kv.k.shape[1];
  const int64_t page = blocks.as<const int32_t>()[seq * blocks.strides[0] + position / block];
  BAIZE_CHECK(page >= 0 && page < kv.k.shape[0]);
  const auto place = [&](const Tensor& view, int64_t h) {
    return page * view.strides[0] + position % block * view.strides[1] + h * view.strides[2];
  };
  for (int64_t h = 0; h < kv_heads; ++h) {
    prepare(args.k_norm, row + (heads + h) * head_dim, head);
    store_row(kv.k, place(kv.k, h), head, head_dim);
    store_row(kv.v, place(kv.v, h), row + (heads + kv_heads + h) * head_dim, head_dim);
  }
}

void CpuOps::do_qk_norm_rope_store(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) {
  if (dry()) return;
  check_f32_rows(qkv);
  const QkvCall call{args, args.rope.present() ? &rope_table(args.rope) : nullptr, qkv, kv, q};
  over_rows(input().rows, qkv.shape[1], [&](int64_t begin, int64_t end) {
    std::vector<float> head(static_cast<size_t>(args.shape.head_dim));
    for (int64_t r = begin; r < end; ++r) norm_rope_store_row(call, r, head.data());
  });
}

}  // namespace baize::cpu
