#include "tensor/gguf_type.h"

#include <array>

#include "base/check.h"

namespace baize {

namespace {
constexpr std::array<GgufTypeInfo, 16> kTypes = {{
    {GgufType::kF32, "F32", 1, 4},
    {GgufType::kF16, "F16", 1, 2},
    {GgufType::kQ4_0, "Q4_0", 32, 18},
    {GgufType::kQ4_1, "Q4_1", 32, 20},
    {GgufType::kQ5_0, "Q5_0", 32, 22},
    {GgufType::kQ5_1, "Q5_1", 32, 24},
    {GgufType::kQ8_0, "Q8_0", 32, 34},
    {GgufType::kQ2_K, "Q2_K", 256, 84},
    {GgufType::kQ3_K, "Q3_K", 256, 110},
    {GgufType::kQ4_K, "Q4_K", 256, 144},
    {GgufType::kQ5_K, "Q5_K", 256, 176},
    {GgufType::kQ6_K, "Q6_K", 256, 210},
    {GgufType::kIQ4_NL, "IQ4_NL", 32, 18},
    {GgufType::kIQ4_XS, "IQ4_XS", 256, 136},
    {GgufType::kBF16, "BF16", 1, 2},
    {GgufType::kMXFP4, "MXFP4", 32, 17},
}};

// Names of the other codes of the format, so that a refusal can name what the file holds.
struct CodeName {
  uint32_t code;
  std::string_view name;
};
constexpr CodeName kOtherCodes[] = {
    {9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"},
    {21, "IQ3_S"}, {22, "IQ2_S"}, {24, "I8"},      {25, "I16"},    {26, "I32"},     {27, "I64"},
    {28, "F64"},   {29, "IQ1_M"}, {34, "TQ1_0"},   {35, "TQ2_0"},  {40, "NVFP4"},
};
}  // namespace

std::span<const GgufTypeInfo> gguf_types() { return kTypes; }

const GgufTypeInfo& gguf_type_info(GgufType type) {
  for (const GgufTypeInfo& info : kTypes) {
    if (info.type == type) return info;
  }
  BAIZE_UNREACHABLE("GgufType without a table row");
}

std::optional<GgufType> gguf_type_from_code(uint32_t code) {
  for (const GgufTypeInfo& info : kTypes) {
    if (static_cast<uint32_t>(info.type) == code) return info.type;
  }
  return std::nullopt;
}

std::string_view gguf_code_name(uint32_t code) {
  if (const auto type = gguf_type_from_code(code)) return gguf_type_info(*type).name;
  for (const CodeName& other : kOtherCodes) {
    if (other.code == code) return other.name;
  }
  return {};
}

int64_t gguf_row_bytes(GgufType type, int64_t k) {
  const GgufTypeInfo& info = gguf_type_info(type);
  BAIZE_CHECK(k % info.block_elems == 0);
  return k / info.block_elems * info.block_bytes;
}

}  // namespace baize
