// Names: the one place that knows how checkpoints spell things. Canonical tensor names ("attn.q" of layer 3, "embed")
// are found under their Hugging Face or GGUF spellings, and canonical config keys (Hugging Face's) under GGUF's.
// Presence of a tensor is the flag for biases, q/k norms and an untied head. Read-only view of a Checkpoint; any
// thread.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "formats/checkpoint.h"
#include "model/dummy_tensors.h"

namespace baize {

/// GGUF's key suffix for a Hugging Face config key ("hidden_size" -> "embedding_length"); empty when it has none.
std::string_view gguf_key(std::string_view hf_key);

/// What some architectures have instead; mostly empty.
std::string_view gguf_other_key(std::string_view hf_key);

/// Other spellings of a key in config.json, in the order to try them (some empty).
std::span<const std::string_view> key_aliases(std::string_view key);

/// The GGUF spelling of a canonical name ("attn.q.weight" of layer 3 -> "blk.3.attn_q.weight"); empty when it has none.
std::string gguf_tensor_name(std::string_view architecture, std::string_view canonical, int64_t layer = -1);

/// A tensor under the canonical name it was asked for by.
struct FoundTensor {
  std::string canonical;
  int64_t layer = -1, expert = -1;
  const SourceTensor* tensor = nullptr;
};

class TensorNames {
 public:
  /// `stored`: the optional tensors that a checkpoint of dummy weights has.
  explicit TensorNames(const Checkpoint& checkpoint, std::span<const std::string> stored = {}, bool dry = false);

  /// The tensor of a canonical name, without or with a layer and an expert: find("embed.weight"),
  /// find("attn.q.bias", 3), find("moe.up.weight", 3, 7).
  /// nullptr when the checkpoint has none. Remembers what was found.
  const SourceTensor* find(std::string_view canonical, int64_t layer = -1, int64_t expert = -1);
  /// find, or Error(kCorrupt) naming the spellings looked for.
  const SourceTensor& need(std::string_view canonical, int64_t layer = -1, int64_t expert = -1);

  /// A table of whole numbers.
  const SourceTensor& need_integers(std::string_view canonical, int64_t layer);

  /// Throws Error(kUnsupported) when the checkpoint holds weights that nothing asked for: they would be a mechanism
  /// that the family does not compute.
  void check_all_used() const;
  /// Marks a tensor as used under its own spelling.
  void use(const SourceTensor& tensor) { used_.insert(tensor.name); }
  /// Gives a dummy without a shape the one that is expected; false for any other tensor.
  bool give_shape(const SourceTensor& tensor, const Shape& shape) const {
    return dummies_ != nullptr && dummies_->give_shape(tensor, shape);
  }
  /// Elements of all tensors found.
  int64_t parameters() const;
  /// Notes every tensor that is found from now on in `list`, each time.
  void record(std::vector<FoundTensor>* list) { record_ = list; }

 private:
  std::vector<std::string> spellings(std::string_view canonical, int64_t layer, int64_t expert) const;
  std::string stem_of_weight(std::string_view canonical, int64_t layer, int64_t expert) const;

  const Checkpoint& checkpoint_;
  std::string prefix_;  // what Hugging Face names stand under: "model.", "language_model.model.", ...
  std::string layers_;  // and the layers under that: "layers.", "h.", ...
  std::unordered_set<std::string> used_;
  std::unordered_set<const SourceTensor*> found_;
  std::unique_ptr<DummyTensors> dummies_;
  std::vector<FoundTensor>* record_ = nullptr;
};

}  // namespace baize
