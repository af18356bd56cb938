#include "formats/tensor_source.h"

#include <cstring>

namespace baize {

void SourceTensor::read_rows(int64_t begin, int64_t end, std::byte* out) const {
  if (rows != nullptr) return rows->make(first_row + begin, first_row + end, out);
  const auto row = static_cast<size_t>(format.row_bytes(width()));
  if (begin < end)
    std::memcpy(out, bytes.data() + static_cast<size_t>(begin) * row, static_cast<size_t>(end - begin) * row);
}

}  // namespace baize
