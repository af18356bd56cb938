// GgufWriter: writes one GGUF file (version 3, little endian): key-values, tensor infos, then the tensors' data, each
// at a multiple of 32 bytes. Everything goes into a file of a temporary name beside the wanted one, which gets its name
// when it is whole; a writer that is destroyed before leaves nothing. Data may be written in any order, so that a model
// passes through memory piece by piece. Used by one thread. Source: the GGUF specification (ggml docs/gguf.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tensor/gguf_type.h"
#include "tensor/tensor.h"

namespace baize {

/// A value of one of the types that GGUF knows and Baize writes.
using GgufValue =
    std::variant<bool, uint32_t, int32_t, uint64_t, float, std::string, std::vector<bool>, std::vector<uint8_t>,
                 std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>, std::vector<std::string>>;

/// In the order in which they are written. Keys are unique.
using GgufValues = std::vector<std::pair<std::string, GgufValue>>;

struct GgufTensorInfo {
  std::string name;
  GgufType type = GgufType::kF32;
  Shape shape;  // outermost first, as everywhere here; the file has the innermost first
  int64_t bytes() const;
};

class GgufWriter {
 public:
  static constexpr int64_t kAlignment = 32;

  /// Throws Error(kInvalidArgument) when `path` exists and is not to be replaced, or is a folder.
  GgufWriter(std::string path, bool replace);
  ~GgufWriter();
  GgufWriter(const GgufWriter&) = delete;
  GgufWriter& operator=(const GgufWriter&) = delete;

  /// Writes header, key-values and tensor infos, and takes the room of the data, which reads as zeros for now. A second
  /// call begins anew. Throws Error(kIo, kResource) when the disk refuses or is full.
  void begin(const GgufValues& values, std::vector<GgufTensorInfo> tensors);
  /// Bytes of tensor `index`, from its byte `offset` on.
  void write(size_t index, int64_t offset, std::span<const std::byte> bytes);
  /// Gives the file its name.
  void finish();

  /// Of the file while it is written.
  const std::string& temporary() const { return temporary_; }
  int64_t file_bytes() const { return file_bytes_; }

 private:
  void write_at(int64_t offset, std::span<const std::byte> bytes);
  [[noreturn]] void refuse(const char* what, int error) const;

  std::string path_, temporary_;
  int file_ = -1;
  std::vector<GgufTensorInfo> tensors_;
  std::vector<int64_t> offsets_;  // of the tensors in the file
  int64_t file_bytes_ = 0;
};

}  // namespace baize
