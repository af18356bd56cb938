// checkpoint_tool PATH [KEY...]: what open_checkpoint sees, as JSON: metadata, tensors (format, shape, CRC-32) and the
// named GGUF arrays. Driven by tests/formats/test_checkpoint.py, which compares it with the formats' own packages.
#include <cstdio>
#include <iostream>

#include "base/error.h"
#include "base/json.h"
#include "formats/checkpoint.h"
#include "formats/gguf.h"

namespace {

using namespace baize;

uint32_t crc32(std::span<const std::byte> bytes) {
  uint32_t value = ~0u;
  for (const std::byte b : bytes) {
    value ^= static_cast<uint8_t>(b);
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0xedb88320u : 0u);
  }
  return ~value;
}

Json array_json(const GgufFile& file, const std::string& key) {
  try {
    Json texts = Json::array();
    for (const std::string_view text : file.strings(key)) texts.push_back(std::string(text));
    return texts;
  } catch (const Error&) {  // not strings
  }
  try {
    return file.floats(key);
  } catch (const Error&) {  // not floats
  }
  return file.ints(key);
}

Json describe(const Checkpoint& model, std::span<char* const> keys) {
  Json out = {{"metadata", model.metadata()}, {"tensors", Json::object()}, {"arrays", Json::object()}};
  for (const SourceTensor& t : model.tensors()) {
    Json shape = Json::array();
    for (int i = 0; i < t.shape.rank(); ++i) shape.push_back(t.shape[i]);
    out["tensors"][t.name] = {{"format", t.format.name()}, {"shape", shape}, {"crc32", crc32(t.bytes)}};
  }
  for (const char* key : keys) out["arrays"][key] = array_json(*model.gguf(), key);
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: checkpoint_tool PATH [KEY...]\n";
    return 2;
  }
  try {
    const auto model = open_checkpoint(argv[1]);
    std::cout << describe(*model, std::span(argv + 2, static_cast<size_t>(argc - 2))).dump() << '\n';
  } catch (const Error& e) {
    std::cerr << e.what() << '\n';
    return exit_code(e.kind());
  }
  return 0;
}
