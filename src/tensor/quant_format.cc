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
      return {Scheme::kGguf, DType::kU8, type};
  }
}

int QuantFormat::block_elems() const { return scheme == Scheme::kPlain ? 1 : gguf_type_info(block).block_elems; }

int64_t QuantFormat::row_bytes(int64_t k) const {
  return scheme == Scheme::kPlain ? k * dtype_bytes(elem) : gguf_row_bytes(block, k);
}

std::string QuantFormat::name() const {
  return std::string(scheme == Scheme::kPlain ? to_string(elem) : gguf_type_info(block).name);
}

}  // namespace baize
