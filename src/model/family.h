// Families: each is one file in families/ that turns Meta into a ModelSpec and registers the architecture names it
// serves. The registry is filled before main and read-only afterwards.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/meta.h"
#include "model/spec.h"

namespace baize {

struct Family {
  const char* name;
  std::vector<std::string> hf_architectures;    // config.json "architectures"
  std::vector<std::string> gguf_architectures;  // "general.architecture"
  ModelSpec (*spec)(const Meta&);
  std::vector<std::string> stored{};  // see STORES
  std::string written_as{};           // see WRITTEN_AS
};

std::span<const Family> families();

/// The family that serves the checkpoint's architecture.
/// Throws Error(kUnsupported) naming the architecture and the closest known ones.
const Family& find_family(const Meta& meta);

/// Metadata to checked spec. `context` > 0 overrides the context length (longrope chooses its factors by it).
ModelSpec make_spec(const Checkpoint& checkpoint, int64_t context = 0);

/// Registers a family; see FAMILY.
struct FamilyRegistration {
  explicit FamilyRegistration(Family family);
};

#define BAIZE_BRACES(...) {__VA_ARGS__}
/// FAMILY(qwen3, (HF names), (GGUF names)) with `static ModelSpec qwen3(const Meta&)` defined above it.
#define FAMILY(name, hf, gguf) \
  static const FamilyRegistration registration_##name({#name, BAIZE_BRACES hf, BAIZE_BRACES gguf, name})

/// STORES(qwen2, "attn.q.bias", ...) below FAMILY: the optional tensors that the family's published checkpoints have,
/// by their canonical names. A checkpoint's own tensors tell this by being there; dummy weights (--load dummy) have
/// only the name.
struct StoresRegistration {
  StoresRegistration(const char* family, std::vector<std::string> stored);
};
#define STORES(name, ...) static const StoresRegistration stores_##name(#name, {__VA_ARGS__})

/// WRITTEN_AS(mistral, "llama") below FAMILY: the GGUF architecture of another family that says the same. A family with
/// GGUF names of its own is written by the first.
struct WrittenAsRegistration {
  WrittenAsRegistration(const char* family, const char* architecture);
};
#define WRITTEN_AS(name, architecture) static const WrittenAsRegistration written_##name(#name, architecture)

// Shared starting points, adjusted by the family files.

/// Pre-norm decoder of rotary attention and gated FFN, as Llama defined it.
ModelSpec llama_like(const Meta& meta);

/// Dimensions, final norm and layers without sublayers.
ModelSpec layers_like(const Meta& meta);

/// Llama's shape with latent attention (families/deepseek.cc).
ModelSpec latent_like(const Meta& meta);

/// The same over what a sparse indexer chooses, with sigmoid experts (families/sparse_latent.cc).
ModelSpec sparse_latent_like(const Meta& meta, bool interleaved);

/// Llama's shape with Granite's multipliers (families/granite.cc).
ModelSpec granite_like(const Meta& meta);

/// Mamba-2's recurrence from keys mamba_n_heads, ...; the gated delta rule from linear_num_value_heads, ...
RecurrenceSpec state_space_like(const Meta& meta);
RecurrenceSpec delta_like(const Meta& meta);

/// The same with layer norms and an FFN without a gate, as GPT-2 and its kin have.
ModelSpec layer_norm_like(const Meta& meta, std::string_view activation);

/// Experts as most configurations describe them: a softmax router; or sigmoid scores with groups and a bias for the
/// choice (DeepSeek-V3).
MoeFfn moe_like(const Meta& meta);
MoeFfn sigmoid_moe(const Meta& meta);
/// Whether a layer has experts; where the configuration does not say, layers from `first` on have.
bool is_sparse(const Meta& meta, int64_t layer, int64_t first = 0);
/// Puts `moe` into every such layer.
void use_experts(const Meta& meta, ModelSpec& spec, const MoeFfn& moe, int64_t first = 0);

/// Windows in layers of type sliding_attention; where the configuration has no types, `slides` tells. Each layer gets
/// the rotation of its type.
void windows_by_type(
    const Meta& meta, ModelSpec& spec, const std::function<bool(int64_t)>& slides = [](int64_t) { return false; });

/// A norm of queries and keys like the layer's own, in every layer.
void norm_qk(ModelSpec& spec, Axis axis = Axis::kHead);

/// Where a layer's norms stand: after the sum; after the block; before and after the block.
void norm_after(LayerSpec& layer);
void norm_post(LayerSpec& layer);
void sandwich(LayerSpec& layer);

/// The attention, dense FFN, ... of a layer. Throws Error(kCorrupt) where the configuration left the layer without one.
AttnSpec& attn(LayerSpec& layer);
DenseFfn& ffn(LayerSpec& layer);
MoeFfn& moe(LayerSpec& layer);
MlaSpec& mla(LayerSpec& layer);
bool has_attention(const LayerSpec& layer);  // in its first sublayer

/// Changes every norm of the spec, q/k norms and absent ones included.
void for_each_norm(ModelSpec& spec, const std::function<void(NormSpec&)>& change);

}  // namespace baize
