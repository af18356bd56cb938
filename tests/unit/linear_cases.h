// Random weight matrices of every format and the shapes that the matrix kernels are tested and measured on: shared by
// cpu_linear_test.cc and bench/linear_bench.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "tensor/gguf_blocks.h"
#include "tensor/quant_format.h"

namespace baize {

/// Every format that the CPU computes with: the plain ones, the GGUF blocks, fp8.
inline std::vector<QuantFormat> all_formats() {
  std::vector<QuantFormat> formats;
  for (const GgufTypeInfo& info : gguf_types()) formats.push_back(QuantFormat::gguf(info.type));
  formats.push_back(QuantFormat::fp8(0));
  formats.push_back(QuantFormat::fp8(128));
  return formats;
}

template <typename T>
void store_at(std::byte* p, T value) {
  std::memcpy(p, &value, sizeof(value));
}

/// `rows` rows of k weights: random bits, with scales that give values of about one to ten.
inline std::vector<std::byte> random_weights(const QuantFormat& format, int64_t rows, int64_t k, std::mt19937& rng) {
  const int64_t row_bytes = format.row_bytes(k);
  std::vector<std::byte> data(static_cast<size_t>(rows * row_bytes));
  std::uniform_real_distribution<float> unit(-1, 1);
  if (format.scheme == Scheme::kPlain) {
    for (int64_t i = 0; i < rows * k; ++i) {
      std::byte* p = data.data() + i * dtype_bytes(format.elem);
      const float value = unit(rng);
      if (format.elem == DType::kF32) store_at(p, value);
      if (format.elem == DType::kF16) store_at(p, f32_to_f16(value));
      if (format.elem == DType::kBF16) store_at(p, f32_to_bf16(value));
    }
    return data;
  }
  for (std::byte& b : data) b = static_cast<std::byte>(rng());
  if (format.scheme == Scheme::kFp8) {
    for (std::byte& b : data) b = (b & std::byte{0x7f}) == std::byte{0x7f} ? std::byte{0x40} : b;
    for (int64_t row = 0; row < rows; ++row) {
      std::byte* scales = data.data() + row * row_bytes + QuantFormat::scales_offset(k);
      for (int64_t g = 0; g < format.scales(k); ++g) store_at(scales + 4 * g, (0.6f + 0.4f * unit(rng)) * 0.02f);
    }
    return data;
  }
  const auto scale = [&](float largest) { return f32_to_f16((0.6f + 0.4f * unit(rng)) * largest); };
  const auto min = [&](float largest) { return f32_to_f16(unit(rng) * largest); };
  const int64_t block = gguf_type_info(format.block).block_bytes;
  for (std::byte* p = data.data(); p < data.data() + data.size(); p += block) {
    switch (format.block) {
      case GgufType::kQ4_0:
        store_at(p + offsetof(BlockQ4_0, d), scale(0.5f));
        break;
      case GgufType::kQ4_1:
        store_at(p + offsetof(BlockQ4_1, d), scale(0.5f));
        store_at(p + offsetof(BlockQ4_1, m), min(4));
        break;
      case GgufType::kQ5_0:
        store_at(p + offsetof(BlockQ5_0, d), scale(0.25f));
        break;
      case GgufType::kQ5_1:
        store_at(p + offsetof(BlockQ5_1, d), scale(0.25f));
        store_at(p + offsetof(BlockQ5_1, m), min(4));
        break;
      case GgufType::kQ8_0:
        store_at(p + offsetof(BlockQ8_0, d), scale(0.03f));
        break;
      case GgufType::kQ2_K:
        store_at(p + offsetof(BlockQ2_K, d), scale(0.1f));
        store_at(p + offsetof(BlockQ2_K, dmin), min(0.2f));
        break;
      case GgufType::kQ3_K:
        store_at(p + offsetof(BlockQ3_K, d), scale(0.05f));
        break;
      case GgufType::kQ4_K:
        store_at(p + offsetof(BlockQ4_K, d), scale(0.01f));
        store_at(p + offsetof(BlockQ4_K, dmin), min(0.1f));
        break;
      case GgufType::kQ5_K:
        store_at(p + offsetof(BlockQ5_K, d), scale(0.005f));
        store_at(p + offsetof(BlockQ5_K, dmin), min(0.1f));
        break;
      case GgufType::kQ6_K:
        store_at(p + offsetof(BlockQ6_K, d), scale(0.001f));
        break;
      case GgufType::kIQ4_NL:
        store_at(p + offsetof(BlockIQ4_NL, d), scale(0.03f));
        break;
      case GgufType::kIQ4_XS:
        store_at(p + offsetof(BlockIQ4_XS, d), scale(0.001f));
        break;
      case GgufType::kMXFP4:
        store_at(p + offsetof(BlockMXFP4, e), static_cast<uint8_t>(125 + rng() % 4));
        break;
      case GgufType::kF32:
      case GgufType::kF16:
      case GgufType::kBF16:
        break;
    }
  }
  return data;
}

}  // namespace baize
