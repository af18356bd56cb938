// dequant_tool CODE K: rows of K weights in the GGUF type CODE from standard input, as f32 to standard output.
// Driven by tests/formats/test_dequant.py, which compares its bytes with PyPI gguf's.
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <vector>

#include "base/error.h"
#include "ops/dequant.h"

namespace {

using namespace baize;

std::string read_all(std::FILE* in) {
  std::string bytes;
  char buffer[1 << 16];
  while (const size_t n = std::fread(buffer, 1, sizeof(buffer), in)) bytes.append(buffer, n);
  return bytes;
}

void run(uint32_t code, int64_t k) {
  const auto type = gguf_type_from_code(code);
  if (!type) fail(ErrorKind::kUnsupported, "type code {} is not supported", code);
  const QuantFormat format = QuantFormat::gguf(*type);
  if (k <= 0 || k % format.block_elems() != 0) fail(ErrorKind::kInvalidArgument, "K = {} breaks a block", k);
  const std::string in = read_all(stdin);
  const auto row_bytes = static_cast<size_t>(format.row_bytes(k));
  if (in.size() % row_bytes != 0) fail(ErrorKind::kInvalidArgument, "{} bytes are no whole rows", in.size());
  std::vector<float> row(static_cast<size_t>(k));
  for (size_t at = 0; at < in.size(); at += row_bytes) {
    dequantize_row(format, in.data() + at, k, row.data());
    if (std::fwrite(row.data(), sizeof(float), row.size(), stdout) != row.size()) fail(ErrorKind::kIo, "cannot write");
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: dequant_tool CODE K < rows > floats\n");
    return 2;
  }
  try {
    run(static_cast<uint32_t>(std::strtoul(argv[1], nullptr, 10)), std::strtoll(argv[2], nullptr, 10));
  } catch (const Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return exit_code(e.kind());
  }
  return 0;
}
