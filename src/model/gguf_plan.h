// GgufPlan: the tensors of a GGUF file and how each is made of a checkpoint's; the inside of convert_to_gguf. The names
// and shapes follow from the folder alone; in which order rows are stored is settled by `settle`, when it is known how
// the file will be read. Used by one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/gguf_writer.h"
#include "model/convert.h"
#include "model/gguf_metadata.h"
#include "model/names.h"

namespace baize {

/// A matrix of the checkpoint, or a part of it, of which rows are taken.
struct PlannedPart {
  SourceTensor source;  // [n, k], or [k, n] where transposed
  bool transposed = false;
  std::vector<int64_t> rows{};  // of [n, k], in this order; empty: all
  int64_t row_count() const;
  int64_t width() const { return source.shape[transposed ? 0 : 1]; }
};

struct PlannedTensor {
  GgufTensorInfo info;
  std::string stem;  // canonical name without its ending
  int64_t layer = -1;
  std::vector<PlannedPart> parts{};  // one behind the other
  float add = 0;                     // to every value
  std::vector<float> values{};       // instead of parts
};

class GgufPlan {
 public:
  /// `found`: what bind asked the folder for.
  GgufPlan(const std::string& architecture, const ModelSpec& spec, const std::vector<FoundTensor>& found,
           const std::vector<RopeTable>& ropes);

  void choose_types(const GgufMix& mix, std::vector<ConvertFallback>& fallbacks);
  std::vector<GgufTensorInfo> infos() const;
  /// Brings the rows into the order in which a reader of `file` wants them.
  void settle(const ModelSpec& file);
  const std::vector<PlannedTensor>& tensors() const { return tensors_; }

 private:
  void add(const FoundTensor& found);
  void add_expert(const FoundTensor& found, const std::string& all);
  void add_latent(const FoundTensor& found);
  void add_head_norm(const FoundTensor& found, const std::string& all);
  void add_all_experts(const FoundTensor& found, const std::string& stem, const std::string& end);
  PlannedTensor& planned(const std::string& canonical, int64_t layer, const Shape& shape);

  const std::string& architecture_;
  const ModelSpec& spec_;
  std::vector<PlannedTensor> tensors_;
};

}  // namespace baize
