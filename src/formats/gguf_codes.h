// The codes of GGUF's metadata types, as the file has them (ggml's docs/gguf.md). Read by gguf.cc, written by
// gguf_writer.cc.
#pragma once

#include <cstdint>

namespace baize {

struct GgufCode {
  enum Type : uint32_t {
    kUint8 = 0,
    kInt8 = 1,
    kUint16 = 2,
    kInt16 = 3,
    kUint32 = 4,
    kInt32 = 5,
    kFloat32 = 6,
    kBool = 7,
    kString = 8,
    kArray = 9,
    kUint64 = 10,
    kInt64 = 11,
    kFloat64 = 12,
  };
};

}  // namespace baize
