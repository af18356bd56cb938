// Any bytes are either a GGUF file whose every view lies inside them, or one Error.
#include "formats/gguf.h"

#include <cstring>

#include "base/error.h"
#include "base/json.h"
#include "fuzz/memory_file.h"

namespace {

using namespace baize;

// Reads both ends of a view, so that the sanitizer sees one that leads outside.
void touch(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const volatile std::byte first = bytes.front(), last = bytes.back();
  static_cast<void>(first), static_cast<void>(last);
}

void read_arrays(const GgufFile& file, const std::string& key) {
  // Each fails for arrays of the other kinds.
  try {
    for (const std::string_view text : file.strings(key)) touch(std::as_bytes(std::span(text)));
  } catch (const Error&) {
  }
  try {
    file.floats(key);
  } catch (const Error&) {
  }
  try {
    file.ints(key);
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto file = GgufFile::parse(test::map_bytes(data, size));
    static_cast<void>(Json::parse(file->metadata().dump()));  // throws when a text is not valid UTF-8
    for (const auto& [key, value] : file->metadata().items()) read_arrays(*file, key);
    for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"}) {
      read_arrays(*file, key);
    }
    for (const SourceTensor& tensor : file->tensors()) {
      touch(tensor.bytes);
      int64_t rows = 1;
      for (int i = 0; i + 1 < tensor.shape.rank(); ++i) rows *= tensor.shape[i];
      BAIZE_CHECK(rows * tensor.format.row_bytes(tensor.shape[-1]) == static_cast<int64_t>(tensor.bytes.size()));
      BAIZE_CHECK(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % 8 == 0);
    }
  } catch (const Error&) {
  }
  return 0;
}
