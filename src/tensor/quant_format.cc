#include "tensor/quant_format.h"

namespace baize {

QuantFormat QuantFormat::gguf(GgufType type) {
  switch (type) {
    case GgufType::kF32:
      return plain(DType::kF32);
    case GgufType::kF16:
      return plain(DType::kF16);
    case GgufType::kBF16:
      return plain(DType::kBF16);
    default:
      return {Scheme::kGguf, DType::kU8, type, 0};
  }
}

int QuantFormat::block_elems() const { return scheme == Scheme::kGguf ? gguf_type_info(block).block_elems : 1; }

int64_t QuantFormat::row_bytes(int64_t k) const {
  switch (scheme) {
    case Scheme::kPlain:
      return k * dtype_bytes(elem);
    case Scheme::kFp8:
      return scales_offset(k) + (scales(k) * 4 + 15) / 16 * 16;
    case Scheme::kGguf:
      break;
  }
  return gguf_row_bytes(block, k);
}

std::string QuantFormat::name() const {
  if (scheme == Scheme::kFp8) return group == 0 ? "fp8" : "fp8/" + std::to_string(group);
  return std::string(scheme == Scheme::kPlain ? to_string(elem) : gguf_type_info(block).name);
}

}  // namespace baize
