// GgufFile: one parsed GGUF file (versions 2 and 3, little endian) over its mapping. Every count, length and offset is
// checked against the file before use. Big arrays (vocabularies) stay in the mapping until asked for.
// Owned through shared_ptr by the Checkpoint. Immutable; any thread. Source: the GGUF specification (ggml
// docs/gguf.md).
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/tensor_source.h"

namespace baize {

class GgufFile {
 public:
  /// Throws Error: kNotFound, kIo; kCorrupt for bytes that break the format; kUnsupported for a version, byte order or
  /// weight type (by name) that Baize does not read.
  static std::shared_ptr<const GgufFile> open(const std::string& path);
  /// Parses an already mapped file; `open` without the file system.
  static std::shared_ptr<const GgufFile> parse(std::shared_ptr<const MappedFile> file);
  ~GgufFile();

  const std::string& path() const { return file_->path(); }
  int version() const { return version_; }
  std::span<const SourceTensor> tensors() const { return tensors_; }

  /// All key-values as one flat object, except every array whose key begins with "tokenizer." and arrays of more than
  /// 65,536 elements. Invalid UTF-8 is replaced by U+FFFD.
  const nlohmann::json& metadata() const { return *metadata_; }

  /// Arrays by key. All are empty when the key is absent; Error(kCorrupt) when it holds another kind of value.
  /// Views into the mapping, valid as long as this object.
  std::vector<std::string_view> strings(std::string_view key) const;
  std::vector<float> floats(std::string_view key) const;
  /// Any integer or boolean element type.
  std::vector<int64_t> ints(std::string_view key) const;
  /// True when the key exists, whatever its type.
  bool has(std::string_view key) const { return values_.contains(key); }

 private:
  friend class GgufParser;
  /// A checked array or scalar in the mapping. For arrays `bytes` begins at the first element.
  struct Value {
    uint32_t type = 0;  // code of the (element) type
    bool is_array = false;
    uint64_t count = 1;  // elements
    std::span<const std::byte> bytes;
  };

  explicit GgufFile(std::shared_ptr<const MappedFile> file);
  /// nullptr when the key is absent; throws when it is no array.
  const Value* array(std::string_view key) const;

  std::shared_ptr<const MappedFile> file_;
  int version_ = 0;
  std::vector<SourceTensor> tensors_;
  std::unordered_map<std::string_view, Value> values_;  // keys are views into the mapping
  std::unique_ptr<nlohmann::json> metadata_;
};

}  // namespace baize
