// Conversion of a Hugging Face folder into a GGUF file. No family has a converter of its own: the tensors are those
// that bind asks for, under the GGUF spelling of the same canonical names (names.cc); the metadata says what the spec
// says (gguf_metadata.h); and what the file stores in another way (row orders, norms with their 1, experts in one
// tensor) follows from how the spec that Baize reads from the file differs from that of the folder. Where the two would
// not compute the same, nothing is written. One thread calls; the work is spread by the backend.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/gguf_writer.h"
#include "model/gguf_mix.h"
#include "ops/backend.h"

namespace baize {

struct ConvertOptions {
  std::string out;
  bool replace = false;  // an existing file
  GgufMix mix;
  std::string title;                  // general.name
  GgufValues tokenizer;               // tokenizer.*
  std::function<bool()> cancelled{};  // asked between pieces of weights: true ends it with Error(kCancelled)
};

/// A tensor whose rows the blocks of the wanted type do not divide.
struct ConvertFallback {
  std::string tensor;
  GgufType wanted, taken;
};

struct ConvertReport {
  std::string architecture;  // general.architecture
  int64_t tensors = 0;
  int64_t bytes = 0;                                  // of the file
  std::vector<std::pair<GgufType, int64_t>> by_type;  // bytes of the tensors of each type
  std::vector<ConvertFallback> fallbacks;
};

/// The general.architecture that a folder's family is written as; Error(kUnsupported) where there is none.
std::string gguf_architecture(const Checkpoint& folder);

/// Writes the model to `options.out`, tensor by tensor. Throws Error: kUnsupported for what GGUF cannot say, with the
/// first such thing; kInvalidArgument, kIo and kResource of the file.
ConvertReport convert_to_gguf(const std::shared_ptr<const Checkpoint>& folder, Backend& backend,
                              const ConvertOptions& options);

}  // namespace baize
