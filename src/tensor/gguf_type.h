// GgufType: the weight types of GGUF files that Baize computes with, and the geometry of their blocks.
// Source: the GGUF specification and the `gguf` Python package's GGML_QUANT_SIZES. Immutable facts; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace baize {

/// Values are the type codes in GGUF files.
enum class GgufType : uint8_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
  kMXFP4 = 39,
};

struct GgufTypeInfo {
  GgufType type;
  std::string_view name;  // "Q4_K", ...
  int block_elems;        // weights in one block along k; 1 for the plain float types
  int block_bytes;        // bytes of one block
};

/// Every supported type, in the order of its code.
std::span<const GgufTypeInfo> gguf_types();

const GgufTypeInfo& gguf_type_info(GgufType type);

/// nullopt for a code that Baize does not compute with.
std::optional<GgufType> gguf_type_from_code(uint32_t code);

/// The public name of any known GGUF type code, supported or not ("IQ2_XXS", ...); empty for an unknown code.
std::string_view gguf_code_name(uint32_t code);

/// True for F32, F16 and BF16: elements, not blocks.
constexpr bool is_plain(GgufType type) {
  return type == GgufType::kF32 || type == GgufType::kF16 || type == GgufType::kBF16;
}

/// Bytes of a row of `k` weights. `k` must be a multiple of block_elems.
int64_t gguf_row_bytes(GgufType type, int64_t k);

}  // namespace baize
