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
      const int element = dtype_bytes(tensor.format.elem);
      BAIZE_CHECK(tensor.shape.elements() * element == static_cast<int64_t>(tensor.bytes.size()));
      BAIZE_CHECK(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % static_cast<uintptr_t>(element) == 0);
      if (tensor.bytes.empty()) continue;
      const volatile std::byte first = tensor.bytes.front(), last = tensor.bytes.back();  // the sanitizer watches
      static_cast<void>(first), static_cast<void>(last);
    }
  } catch (const Error&) {
  }
  return 0;
}
