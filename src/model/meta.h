// Meta: a checkpoint's metadata under one spelling. Keys are those of Hugging Face's config.json; for GGUF files the
// names table (names.cc) translates. Every accessor checks type and range and throws Error(kCorrupt) naming the key as
// the file spells it. Read-only view of a Checkpoint; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "formats/checkpoint.h"
#include "model/spec.h"

namespace baize {

class Meta {
 public:
  /// `context` > 0 overrides max_position_embeddings as the configured context.
  explicit Meta(const Checkpoint& checkpoint, int64_t context = 0);

  bool gguf() const { return checkpoint_.kind() == Checkpoint::Kind::kGguf; }
  const std::vector<std::string>& architectures() const { return architectures_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }

  /// The same metadata where keys that a Hugging Face config leaves out (its config class knows them) are filled in.
  Meta with_defaults(const Json& values) const;

  /// Notes the keys that are asked for from now on, of this and of what is made of it.
  void record(std::set<std::string>* keys) { asked_ = keys; }

  bool has(std::string_view key) const;      // present and not null
  bool has_own(std::string_view key) const;  // under this very name
  /// A list of one number a layer stands for that number where all are equal.
  int64_t integer(std::string_view key) const;
  int64_t integer(std::string_view key, int64_t otherwise) const;
  int64_t positive(std::string_view key) const;  // a whole number that may be divided by: at least 1
  int64_t positive(std::string_view key, int64_t otherwise) const;
  float number(std::string_view key) const;
  float number(std::string_view key, float otherwise) const;
  bool flag(std::string_view key, bool otherwise) const;
  std::string text(std::string_view key, const std::string& otherwise) const;

  /// Entry `index` of a list of whole numbers or flags; the number itself where the key holds one for all.
  int64_t entry(std::string_view key, int64_t index, int64_t otherwise) const;
  float number_at(std::string_view key, int64_t index, float otherwise) const;
  std::string text_at(std::string_view key, int64_t index, const std::string& otherwise) const;  // lists repeat
  bool lists(std::string_view key, int64_t value) const;  // whether the list holds the value
  int64_t count(std::string_view key) const;  // entries of a list, characters of a text, 0 for anything else
  /// Whether queries are normed: in GGUF the norms' presence says it, elsewhere the flag `key`.
  bool norms_queries(std::string_view key) const;
  /// The same metadata with the keys of an object inside it on top.
  Meta inner(std::string_view key) const;

  int64_t layers() const;
  int64_t vocab() const;    // vocab_size; for GGUF, the rows of the embedding table
  int64_t context() const;  // configured, else max_position_embeddings
  /// layer_types[layer] ("full_attention", "sliding_attention"), or `otherwise` when the file has no such list.
  /// GGUF files have sliding_window_pattern instead: a period, or a flag a layer.
  std::string layer_type(int64_t layer, const std::string& otherwise) const;
  /// hidden_activation or hidden_act, by its Hugging Face name. Throws Error(kUnsupported) for an unknown one.
  Activation activation(std::string_view otherwise) const;

  /// The rotary embedding of attention layers of `layer_type` for heads of `head_dim`, in either config form.
  RopeSpec rope(int64_t head_dim, std::string_view layer_type = "full_attention") const;

 private:
  const Json* find(std::string_view key) const;
  std::string layer_type_gguf(int64_t layer, const std::string& otherwise) const;
  std::string spelled(std::string_view key) const;
  [[noreturn]] void wrong(std::string_view key, std::string_view expected) const;
  RopeSpec rope_hf(int64_t head_dim, std::string_view layer_type) const;
  RopeSpec rope_gguf(int64_t head_dim, std::string_view layer_type) const;

  const Checkpoint& checkpoint_;
  Json root_;  // config.json, its text_config, or the GGUF key-values
  int64_t context_ = 0;
  std::vector<std::string> architectures_;
  std::set<std::string>* asked_ = nullptr;
};

}  // namespace baize
