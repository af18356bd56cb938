// Any bytes are either a safetensors file whose every tensor lies inside them, or one Error.
#include "formats/safetensors.h"

#include "base/check.h"
#include "base/error.h"
#include "fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baize;
  try {
    const auto file = test::map_bytes(data, size);
    for (const SourceTensor& tensor : read_safetensors(file).tensors) {
      const auto all = file->bytes();
      BAIZE_CHECK(tensor.bytes.data() >= all.data() &&
                  tensor.bytes.data() + tensor.bytes.size() <= all.data() + all.size());
      BAIZE_CHECK(tensor.shape.elements() * dtype_bytes(tensor.format.elem) ==
                  static_cast<int64_t>(tensor.bytes.size()));
    }
  } catch (const Error&) {
  }
  return 0;
}
