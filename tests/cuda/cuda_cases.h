// What the device tests share: tensors that exist twice, as f32 for the reference and in the device's type on the GPU,
// ragged batches over a paged cache, and random weights of every format.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "backend/cuda/blocks.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/ref/ref_backend.h"
#include "ops/backend.h"

namespace baize::test {

inline std::mt19937& rng() {
  static std::mt19937 engine(20261123);
  return engine;
}

inline std::vector<float> normals(int64_t count, float scale = 1) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = normal(rng());
  return values;
}

/// What the minimum of a block must be, relative to its scale, for values around zero.
inline float middle(GgufType type) {
  switch (type) {
    case GgufType::kQ4_1:
      return -7.5f;  // added
    case GgufType::kQ5_1:
      return -15.5f;
    case GgufType::kQ2_K:
      return 1.5f;  // subtracted
    case GgufType::kQ4_K:
      return 7.5f;
    default:
      return 15.5f;  // Q5_K
  }
}

/// `rows` rows of k weights: random bits, with block scales that keep the values near 1.
inline std::vector<std::byte> random_weights(const QuantFormat& format, int64_t rows, int64_t k) {
  std::vector<std::byte> data(static_cast<size_t>(rows * format.row_bytes(k)));
  if (format.scheme == Scheme::kPlain) {
    const std::vector<float> values = normals(rows * k);
    for (size_t i = 0; i < values.size(); ++i) {
      if (format.elem == DType::kF32) std::memcpy(&data[i * 4], &values[i], 4);
      const uint16_t half = format.elem == DType::kF16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
      if (format.elem != DType::kF32) std::memcpy(&data[i * 2], &half, 2);
    }
    return data;
  }
  for (std::byte& b : data) b = static_cast<std::byte>(rng()());
  if (format.scheme == Scheme::kFp8) {
    const int64_t row_bytes = format.row_bytes(k), at = QuantFormat::scales_offset(k);
    const std::vector<float> values = normals(rows * k, 100);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < k; ++i) {
        data[static_cast<size_t>(row * row_bytes + i)] =
            std::byte{f32_to_e4m3(values[static_cast<size_t>(row * k + i)])};
      }
      for (int64_t g = 0; g < format.scales(k); ++g) {
        const float scale = (0.5f + static_cast<float>(rng()() % 1000) / 1000) / 100;
        std::memcpy(&data[static_cast<size_t>(row * row_bytes + at + 4 * g)], &scale, 4);
      }
    }
    return data;
  }
  const cuda::BlockMap map = cuda::block_map(format.block);
  std::uniform_real_distribution<float> unit(0.5f, 1);
  const int levels = format.block == GgufType::kQ8_0 ? 100 : format.block == GgufType::kQ6_K ? 2000 : 400;
  for (size_t at = 0; at < data.size(); at += static_cast<size_t>(map.bytes)) {
    if (format.block == GgufType::kMXFP4) {
      data[at] = static_cast<std::byte>(120 + rng()() % 6);
      continue;
    }
    const float scale = unit(rng()) * 2 / static_cast<float>(levels);
    for (int i = 0; i < map.d; i += 2) {
      const uint16_t bits = f32_to_f16(i == 0 ? scale : scale * middle(format.block));
      std::memcpy(&data[at + static_cast<size_t>(map.at_d + i)], &bits, 2);
    }
  }
  return data;
}

/// Sum of squared differences over sum of squares; NaN or a poisoned value never passes a bound.
inline double nmse(std::span<const float> got, std::span<const float> want) {
  double difference = 0, power = 1e-30;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = static_cast<double>(got[i]) - static_cast<double>(want[i]);
    difference += d * d;
    power += static_cast<double>(want[i]) * static_cast<double>(want[i]);
  }
  return got.size() == want.size() ? difference / power : 1e30;
}

/// Memory of one backend that lives as long as the test.
class Pool {
 public:
  explicit Pool(Backend& backend) : backend_(backend) {}

  Tensor put(const void* data, DType dtype, const Shape& shape) {
    const int64_t bytes = shape.elements() * dtype_bytes(dtype);
    buffers_.push_back(backend_.allocate(bytes + 16));
    backend_.upload(buffers_.back().data(), data, bytes);
    return Tensor(buffers_.back().data(), dtype, shape, backend_.place());
  }
  Tensor put(std::span<const std::byte> bytes) {
    return put(bytes.data(), DType::kU8, {static_cast<int64_t>(bytes.size())});
  }
  Tensor ints(const std::vector<int32_t>& values) {
    return put(values.data(), DType::kI32, {static_cast<int64_t>(values.size())});
  }
  /// f32 values rounded to `dtype`.
  Tensor floats(const std::vector<float>& values, DType dtype, const Shape& shape) {
    if (dtype == DType::kF32) return put(values.data(), dtype, shape);
    std::vector<uint16_t> half(values.size());
    for (size_t i = 0; i < half.size(); ++i) {
      half[i] = dtype == DType::kBF16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
    }
    return put(half.data(), dtype, shape);
  }
  Tensor floats(const std::vector<float>& values, DType dtype) {
    return floats(values, dtype, {static_cast<int64_t>(values.size())});
  }
  std::vector<float> fetch(const Tensor& t) {
    const auto count = static_cast<size_t>(t.shape.elements());
    std::vector<float> values(count);
    if (t.dtype == DType::kF32) {
      backend_.download(values.data(), t.data, t.bytes());
      return values;
    }
    std::vector<uint16_t> half(count);
    backend_.download(half.data(), t.data, t.bytes());
    for (size_t i = 0; i < count; ++i) values[i] = t.dtype == DType::kBF16 ? bf16_to_f32(half[i]) : f16_to_f32(half[i]);
    return values;
  }

 private:
  Backend& backend_;
  std::vector<Buffer> buffers_;
};

/// Puts stored weights where `linear` runs on them, in the layout of `pack` (null: as stored).
inline void put_weights(Pool& pool, const std::vector<std::byte>& stored, const Pack* pack, Linear& linear) {
  if (pack == nullptr) {
    linear.w = pool.put(stored);
    return;
  }
  std::vector<std::byte> packed(static_cast<size_t>(pack->bytes(linear.shape)));
  pack->repack(linear.shape, stored.data(), packed.data(), 0, linear.shape.n);
  linear.w = pool.put(packed);
  if (pack->scale_count == nullptr) return;
  std::vector<float> scales(static_cast<size_t>(pack->scale_count(linear.shape)));
  pack->repack_scales(linear.shape, stored.data(), scales.data(), 0, linear.shape.n);
  linear.scales = pool.floats(scales, DType::kF32);
}

/// Every GGUF type, and fp8 with a scale a row and a scale for 128 weights.
inline std::vector<QuantFormat> weight_formats() {
  std::vector<QuantFormat> formats;
  for (const GgufTypeInfo& info : gguf_types()) formats.push_back(QuantFormat::gguf(info.type));
  formats.push_back(QuantFormat::fp8(0));
  formats.push_back(QuantFormat::fp8(128));
  return formats;
}

/// Sequences of a step: tokens already in the cache, and rows to compute.
struct SeqCase {
  int32_t before, rows;
};

/// The StepInput of a batch on one backend; pages are shuffled the same way everywhere.
inline StepInput make_step(Pool& pool, std::span<const SeqCase> seqs, int32_t block, int64_t& pages) {
  StepInput step;
  std::vector<int32_t> ids, positions, row_seq, q_start = {0}, kv_len, out_rows;
  int32_t most = 1;
  for (const SeqCase& s : seqs) most = std::max(most, (s.before + s.rows + block - 1) / block);
  pages = most * static_cast<int64_t>(seqs.size());
  std::vector<int32_t> table(static_cast<size_t>(pages));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
  std::shuffle(table.begin(), table.end(), std::mt19937(5));
  for (size_t s = 0; s < seqs.size(); ++s) {
    for (int32_t r = 0; r < seqs[s].rows; ++r) {
      ids.push_back(static_cast<int32_t>((ids.size() * 31 + 5) % 97));
      positions.push_back(seqs[s].before + r);
      row_seq.push_back(static_cast<int32_t>(s));
    }
    q_start.push_back(static_cast<int32_t>(ids.size()));
    kv_len.push_back(seqs[s].before + seqs[s].rows);
    out_rows.push_back(static_cast<int32_t>(ids.size()) - 1);
    step.max_kv_len = std::max<int64_t>(step.max_kv_len, kv_len.back());
  }
  step.rows = static_cast<int64_t>(ids.size());
  step.seqs = static_cast<int64_t>(seqs.size());
  step.out_count = step.seqs;
  step.ids = pool.ints(ids);
  step.positions = pool.ints(positions);
  step.row_seq = pool.ints(row_seq);
  step.q_start = pool.ints(q_start);
  step.kv_len = pool.ints(kv_len);
  step.out_rows = pool.ints(out_rows);
  step.block_tables[0] = pool.ints(table).reshaped({step.seqs, most});
  return step;
}

/// Runs `body` as one step of `backend`, with an arena sized by a dry run of it.
template <typename Body>
void run_step(Backend& backend, Compute compute, const StepInput& step, Body&& body) {
  const auto dry = backend.make_ops(compute, Arena());
  dry->begin_step(step);
  body(*dry);
  dry->end_step();
  const auto ops = backend.make_ops(compute, Arena(backend.allocate(dry->cost().arena_bytes + 256)));
  for (int repeat = 0; repeat < 3; ++repeat) {  // directly, recorded, replayed: all must agree with the reference
    ops->begin_step(step);
    body(*ops);
    ops->end_step();
  }
}

}  // namespace baize::test
