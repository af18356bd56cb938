// DummyTensors: the tensors of a checkpoint of a configuration alone (`--load dummy`), made when bind asks for them:
// their shapes are those that bind expects, their formats those of a mix. Which optional ones there are, the family
// says. Used by TensorNames; one thread.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "formats/checkpoint.h"
#include "model/meta.h"

namespace baize {

/// Formats of the matrices, by the names of --dummy-format, separated by '|'. "q4_k_m" is the usual mix: Q4_K, but
/// Q6_K for the head and for the v and down matrices of the layers that matter most. The default is bf16.
inline constexpr const char* kDummyFormats = "bf16|f16|f32|q8_0|q4_0|q4_k_m";

class DummyTensors {
 public:
  /// `stored`: canonical names of optional tensors that the family's checkpoints have; "*.bias" means all but the
  /// head's.
  /// A dry one's bytes have sizes only.
  DummyTensors(const Checkpoint& checkpoint, std::span<const std::string> stored, bool dry);

  /// Whether the checkpoint would have an optional tensor.
  bool has(std::string_view canonical) const;
  /// The tensor of a canonical name; its shape has no elements until it is given one.
  SourceTensor& get(std::string_view canonical, int64_t layer, int64_t expert);
  /// Gives a tensor of get() that has no shape yet its shape and bytes; false for any other.
  bool give_shape(const SourceTensor& tensor, const Shape& shape);

 private:
  QuantFormat format_of(const std::string& stem, int64_t layer, int64_t k) const;

  struct Made {
    std::string stem;
    int64_t layer = -1;
    SourceTensor tensor;
  };
  const Checkpoint& checkpoint_;
  std::span<const std::string> stored_;
  bool dry_;
  Meta meta_;
  std::unordered_map<std::string, Made> made_;
};

}  // namespace baize
