// Model: a ModelSpec bound to a checkpoint's tensors on one backend, ready for `forward`. Owns its weights (views into
// mapped files, or buffers of the backend) through the store. Immutable after bind; shared by any number of steps.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "formats/checkpoint.h"
#include "model/spec.h"
#include "ops/backend.h"
#include "ops/ops.h"

namespace baize {

/// Up to three linears that read the same input and fill adjacent columns.
struct LinearParts {
  std::array<Linear, 3> part;
  size_t count = 0;
  std::span<const Linear> span() const { return {part.data(), count}; }
  int64_t n() const;
};

struct AttnBlock {
  LinearParts qkv;
  QkvArgs qkv_args;
  AttnArgs args;
  Linear o;
  size_t state = 0;  // index into StepInput::kv
};

struct FfnBlock {
  LinearParts gate_up;
  Activation activation = Activation::kSilu;
  int64_t ff = 0;
  Linear down;
};

using BoundBlock = std::variant<AttnBlock, FfnBlock>;

struct BoundSublayer {
  Norm pre, post;
  BoundBlock block;
};

/// One bound weight, for `inspect` and the memory plan.
struct WeightInfo {
  std::string name;    // canonical: "layers.3.attn.q"
  std::string source;  // as the checkpoint spells it
  LinearShape shape;
  const Pack* pack = nullptr;  // null: the stored layout, in place
  std::array<const LinearKernel*, kMRanges> kernels{};
  int64_t resident_bytes = 0;
};

struct BindOptions {
  Compute compute = Compute::kAuto;
  bool dry = false;  // choose and count everything, but read, pack and allocate no weights: `inspect`, memory plans
};

struct Model {
  ModelSpec spec;
  Precision precision;
  Embed embed;
  std::vector<std::vector<BoundSublayer>> layers;
  Norm final_norm;
  Linear head;

  std::vector<WeightInfo> weights;
  int64_t resident_bytes = 0;                    // of all weights, norms and biases too
  std::shared_ptr<const Checkpoint> checkpoint;  // keeps mapped weights alive
  std::vector<Buffer> buffers;                   // packed, folded and uploaded weights
};

/// Finds each tensor, runs the load passes (fold, split, tie, choose_kernels), packs or uploads what the backend wants.
/// Throws Error(kCorrupt) when tensors are missing or contradict the spec, Error(kUnsupported) for formats without a
/// kernel.
std::unique_ptr<const Model> bind(std::shared_ptr<const Checkpoint> checkpoint, const ModelSpec& spec, Backend& backend,
                                  const BindOptions& options);

struct StepOutput {
  Tensor logits;  // f32 [out_count, vocab]
};

/// The one forward pass: every model, every backend, every batch.
void forward(const Model& model, const StepInput& input, Ops& ops, const StepOutput& output);

}  // namespace baize
