// Checkpoint: one opened model, whatever its format: a GGUF file (or a split set) or a folder in the Hugging Face
// layout with safetensors. Metadata is handed on as the file spells it; what it means is the model layer's business.
// Owned through shared_ptr by whoever loads weights from it. Immutable; any thread.
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

class DummyWeights;
class GgufFile;

class Checkpoint {
 public:
  enum class Kind { kHuggingFace, kGguf };

  ~Checkpoint();
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  Kind kind() const { return kind_; }
  /// As given to open_checkpoint.
  const std::string& path() const { return path_; }
  /// Hugging Face: config.json as it is. GGUF: the key-values as one flat object, {"general.architecture": "llama",
  /// "llama.block_count": 30, ...}, without the arrays of the tokenizer (see gguf()).
  const nlohmann::json& metadata() const { return *metadata_; }
  /// generation_config.json, or an empty object.
  const nlohmann::json& generation_config() const { return *generation_config_; }

  /// In file order (shards in the order of their names).
  std::span<const SourceTensor> tensors() const { return tensors_; }
  /// nullptr when absent. Throws Error(kUnsupported) when the file has the tensor in an element type that Baize does
  /// not compute with (safetensors files often carry integer buffers that no one asks for).
  const SourceTensor* find(std::string_view name) const;
  /// A table of whole numbers (kI64) of a safetensors file; these are not among tensors(). nullptr when absent.
  const SourceTensor* find_integers(std::string_view name) const;

  /// The (first) GGUF file, for its vocabulary; null for Hugging Face folders.
  const GgufFile* gguf() const { return gguf_.get(); }
  /// What the weights are made of in a checkpoint of a configuration alone; else null.
  DummyWeights* dummy() const { return dummy_.get(); }
  /// The folder that holds tokenizer.json and its companions; empty for GGUF.
  std::string tokenizer_folder() const { return kind_ == Kind::kHuggingFace ? path_ : std::string(); }

 private:
  friend struct CheckpointBuilder;
  explicit Checkpoint(Kind kind, std::string path);

  Kind kind_;
  std::string path_;
  std::unique_ptr<nlohmann::json> metadata_, generation_config_;
  std::vector<SourceTensor> tensors_;
  std::unordered_map<std::string_view, size_t> index_;  // name -> position in tensors_
  std::unordered_map<std::string, SourceTensor> integers_;
  std::unordered_map<std::string, std::string> unsupported_;  // name -> the file's own name of its element type
  std::shared_ptr<const GgufFile> gguf_;
  std::unique_ptr<DummyWeights> dummy_;
};

/// Opens a GGUF file (the first of a split set, NAME-00001-of-0000N.gguf, finds the others) or a folder with
/// config.json and model.safetensors (or model.safetensors.index.json and its shards). Reads headers only; the weights
/// stay mapped. Throws Error(kNotFound, kCorrupt, kUnsupported, kIo, kInvalidArgument) with one sentence.
std::shared_ptr<const Checkpoint> open_checkpoint(const std::string& path);

/// A checkpoint without tensors, whose weights are dummies: `path` is a config.json, of any name, or a folder that has
/// one. `mix` names their formats (model/dummy_tensors.h).
std::shared_ptr<const Checkpoint> open_configuration(const std::string& path, const std::string& mix);

}  // namespace baize
