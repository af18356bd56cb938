// Steps with random data for op tests and benchmarks: owned host tensors, a ragged StepInput over a paged cache with
// shuffled pages, and a runner that gives an Ops exactly the memory its dry run asked for.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "ops/backend.h"
#include "unit/op_shapes.h"

namespace baize::op_test {

/// A dense host tensor with its memory: on the heap, where the sanitizers see its ends, or large and in huge pages, as
/// the engine's.
class HostTensor {
 public:
  HostTensor(DType dtype, const Shape& shape) : view_(nullptr, dtype, shape) {
    if (view_.bytes() < (int64_t{4} << 20)) {
      small_.resize(static_cast<size_t>(view_.bytes()));
      view_.data = small_.data();
    } else {
      large_ = Buffer::host(view_.bytes());
      view_.data = large_.data();
    }
  }
  const Tensor& view() const { return view_; }
  operator const Tensor&() const { return view_; }
  float* f32() const { return view_.as<float>(); }
  int32_t* i32() const { return view_.as<int32_t>(); }
  int64_t size() const { return view_.shape.elements(); }
  std::span<const float> values() const { return {f32(), static_cast<size_t>(size())}; }

 private:
  std::vector<std::byte> small_;
  Buffer large_;
  Tensor view_;
};

inline HostTensor random_tensor(const Shape& shape, uint32_t seed, float deviation = 1.0f) {
  HostTensor tensor(DType::kF32, shape);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  for (int64_t i = 0; i < tensor.size(); ++i) tensor.f32()[i] = normal(random);
  return tensor;
}

inline HostTensor int_tensor(const std::vector<int32_t>& values) {
  HostTensor tensor(DType::kI32, {static_cast<int64_t>(values.size())});
  std::copy(values.begin(), values.end(), tensor.i32());
  return tensor;
}

/// A step over `seqs` and one layer's paged cache, head-major inside a page, between two other layers' bytes. Pages are
/// dealt in random order; blocks that a window has left behind have none. All of the pool is NaN until written.
class PagedStep {
 public:
  PagedStep(const std::vector<SeqShape>& seqs, const AttnShape& shape, int64_t block, int64_t window, DType kv_dtype)
      : shape_(shape), block_(block) {
    std::vector<int32_t> positions, row_seq, q_start = {0}, kv_len;
    int64_t max_blocks = 0;
    for (size_t s = 0; s < seqs.size(); ++s) {
      for (int64_t i = 0; i < seqs[s].rows; ++i) {
        positions.push_back(static_cast<int32_t>(seqs[s].cached + i));
        row_seq.push_back(static_cast<int32_t>(s));
      }
      q_start.push_back(static_cast<int32_t>(positions.size()));
      kv_len.push_back(static_cast<int32_t>(seqs[s].cached + seqs[s].rows));
      max_blocks = std::max(max_blocks, (kv_len.back() + block - 1) / block);
      input.max_kv_len = std::max<int64_t>(input.max_kv_len, kv_len.back());
    }
    input.rows = static_cast<int64_t>(positions.size());
    input.seqs = static_cast<int64_t>(seqs.size());
    deal_pages(seqs, kv_len, max_blocks, window);
    input.positions = keep(int_tensor(positions));
    input.row_seq = keep(int_tensor(row_seq));
    input.q_start = keep(int_tensor(q_start));
    input.kv_len = keep(int_tensor(kv_len));
    make_cache(kv_dtype);
  }

  StepInput input;
  KvView kv;

  /// Element offset of a token's head in kv.k or kv.v; -1 if its page is gone.
  int64_t offset(int64_t seq, int64_t position, int64_t head) const {
    const Tensor& table = input.block_tables[0];
    const int64_t page = table.as<int32_t>()[seq * table.shape[1] + position / block_];
    if (page < 0) return -1;
    return page * kv.k.strides[0] + position % block_ * kv.k.strides[1] + head * kv.k.strides[2];
  }

  /// Random keys and values for all tokens of all sequences that have a page, this step's included.
  void fill_cache(uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 1);
    for (int64_t s = 0; s < input.seqs; ++s) {
      for (int64_t t = 0; t < input.kv_len.as<int32_t>()[s]; ++t) {
        for (int64_t h = 0; h < shape_.kv_heads; ++h) {
          const int64_t at = offset(s, t, h);
          for (int64_t i = 0; at >= 0 && i < shape_.head_dim; ++i) {
            put(kv.k, at + i, normal(random));
            put(kv.v, at + i, normal(random));
          }
        }
      }
    }
  }

  static float get(const Tensor& t, int64_t at) {
    return t.dtype == DType::kF16 ? f16_to_f32(t.as<uint16_t>()[at]) : t.as<float>()[at];
  }
  static void put(const Tensor& t, int64_t at, float value) {
    if (t.dtype == DType::kF16) {
      t.as<uint16_t>()[at] = f32_to_f16(value);
    } else {
      t.as<float>()[at] = value;
    }
  }

 private:
  const Tensor& keep(HostTensor&& tensor) {
    owned_.push_back(std::make_unique<HostTensor>(std::move(tensor)));
    return owned_.back()->view();
  }

  void deal_pages(const std::vector<SeqShape>& seqs, const std::vector<int32_t>& kv_len, int64_t max_blocks,
                  int64_t window) {
    HostTensor table(DType::kI32, {input.seqs, max_blocks});
    std::fill_n(table.i32(), table.size(), -1);
    std::vector<int64_t> places;
    for (int64_t s = 0; s < input.seqs; ++s) {
      const int64_t oldest = window > 0 ? std::max<int64_t>(0, seqs[static_cast<size_t>(s)].cached - window + 1) : 0;
      for (int64_t b = oldest / block_; b * block_ < kv_len[static_cast<size_t>(s)]; ++b) {
        places.push_back(s * max_blocks + b);
      }
    }
    pages_ = static_cast<int64_t>(places.size()) + 3;
    std::vector<int32_t> pages(static_cast<size_t>(pages_));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(17));
    for (size_t i = 0; i < places.size(); ++i) table.i32()[places[i]] = pages[i];
    input.block_tables[0] = keep(std::move(table));
  }

  void make_cache(DType dtype) {
    const int64_t head = block_ * shape_.head_dim;
    const int64_t layer = 2 * shape_.kv_heads * head;
    const Tensor& pool = keep(HostTensor(dtype, {pages_, 3 * layer}));
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (int64_t i = 0; i < pool.shape.elements(); ++i) put(pool, i, nan);
    kv.k = Tensor(static_cast<char*>(pool.data) + layer * dtype_bytes(dtype), dtype,
                  {pages_, block_, shape_.kv_heads, shape_.head_dim});
    kv.k.strides = {3 * layer, shape_.head_dim, head, 1};
    kv.v = kv.k;
    kv.v.data = static_cast<char*>(kv.k.data) + shape_.kv_heads * head * dtype_bytes(dtype);
    input.kv = {&kv, 1};
  }

  AttnShape shape_;
  int64_t block_;
  int64_t pages_ = 0;
  std::vector<std::unique_ptr<HostTensor>> owned_;
};

/// A step without a cache, for the row-wise ops.
inline StepInput rows_step(int64_t rows) {
  StepInput input;
  input.rows = rows;
  input.seqs = 1;
  return input;
}

/// Runs `body(ops)` in a dry step, then in a real one with exactly the arena bytes that the dry one counted; a dry
/// tensor has no memory, so that a kernel run by mistake would crash. `body` must make its own temps only through ops.
template <typename Body>
StepCost run_step(Backend& backend, const StepInput& input, const Body& body, Compute compute = Compute::kExact) {
  const auto dry = backend.make_ops(compute, Arena());
  dry->begin_step(input);
  body(*dry);
  dry->end_step();
  const auto ops = backend.make_ops(compute, Arena(backend.allocate(dry->cost().arena_bytes)));
  ops->begin_step(input);
  body(*ops);
  ops->end_step();
  return dry->cost();
}

/// Sum of squared differences over sum of squares; NaN (never below a bound) if either holds one.
inline double nmse(std::span<const float> got, std::span<const float> want) {
  double error = 0;
  double power = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - want[i];
    error += difference * difference;
    power += static_cast<double>(want[i]) * want[i];
  }
  return power > 0 ? error / power : error;
}

}  // namespace baize::op_test
