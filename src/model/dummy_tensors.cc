#include "model/dummy_tensors.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "formats/dummy_weights.h"
#include "model/gguf_mix.h"

namespace baize {

namespace {

// Flags of configurations that say of biases whether there are any.
constexpr std::pair<const char*, std::array<std::string_view, 4>> kBiasFlags[] = {
    {"attention_bias", {"attn.q.bias", "attn.k.bias", "attn.v.bias", "attn.o.bias"}},
    {"bias", {"attn.q.bias", "attn.k.bias", "attn.v.bias", "attn.o.bias"}},
    {"bias", {"ffn.up.bias", "ffn.down.bias"}},
    {"use_qkv_bias", {"attn.q.bias", "attn.k.bias", "attn.v.bias"}},
    {"mlp_bias", {"ffn.gate.bias", "ffn.up.bias", "ffn.down.bias"}},
    {"lm_head_bias", {"head.bias"}},
};

}  // namespace

DummyTensors::DummyTensors(const Checkpoint& checkpoint, std::span<const std::string> stored, bool dry)
    : checkpoint_(checkpoint), stored_(stored), dry_(dry), meta_(checkpoint) {}

bool DummyTensors::has(std::string_view canonical) const {
  const auto named = [&](const std::string& name) { return std::ranges::find(stored_, name) != stored_.end(); };
  const std::string name(canonical);
  if (named(name) || name == "head.weight") return true;  // without a shape, and so without values, where it is tied
  if (named("-" + name)) return false;
  for (const auto& [key, biases] : kBiasFlags) {
    if (meta_.flag(key, false) && std::ranges::find(biases, name) != biases.end()) return true;
  }
  return name.ends_with(".bias") && name != "head.bias" && named("*.bias");
}

SourceTensor& DummyTensors::get(std::string_view canonical, int64_t layer, int64_t expert) {
  std::string name(canonical);
  if (layer >= 0) name = fmt::format("layers.{}.{}", layer, canonical);
  if (expert >= 0) name += fmt::format("[{}]", expert);
  const auto [it, made] = made_.try_emplace(name);
  if (made) {
    it->second.stem = canonical.substr(0, canonical.rfind('.'));
    it->second.layer = layer;
    it->second.tensor.name = name;
    it->second.tensor.shape = {0};
  }
  return it->second.tensor;
}

QuantFormat DummyTensors::format_of(const std::string& stem, int64_t layer, int64_t k) const {
  const std::string& mix = checkpoint_.dummy()->mix();
  QuantFormat format = QuantFormat::plain(mix == "f32" ? DType::kF32 : mix == "f16" ? DType::kF16 : DType::kBF16);
  if (mix == "q8_0") format = QuantFormat::gguf(GgufType::kQ8_0);
  if (mix == "q4_0") format = QuantFormat::gguf(GgufType::kQ4_0);
  if (mix == "q4_k_m") {
    const bool better =
        stem == "head" || (stem == "embed" && meta_.flag("tie_word_embeddings", false)) ||
        ((stem == "attn.v" || stem == "ffn.down" || stem == "moe.all.down") && keeps_more_bits(layer, meta_.layers()));
    format = QuantFormat::gguf(better ? GgufType::kQ6_K : GgufType::kQ4_K);
  }
  const bool divides = k % format.block_elems() == 0;
  return divides ? format : QuantFormat::plain(DType::kBF16);  // as converters leave rows that blocks do not divide
}

bool DummyTensors::give_shape(const SourceTensor& tensor, const Shape& shape) {
  const auto it = made_.find(tensor.name);
  if (it == made_.end() || &it->second.tensor != &tensor || tensor.shape.elements() > 0) return false;
  SourceTensor& own = it->second.tensor;
  const bool vector = shape.rank() < 2;
  own.shape = shape;
  own.format = vector ? QuantFormat::plain(DType::kF32) : format_of(it->second.stem, it->second.layer, shape[-1]);
  const int64_t rows = shape.elements() / shape[-1];
  const int64_t size = rows * own.format.row_bytes(shape[-1]);
  if (dry_) {
    own.bytes = checkpoint_.dummy()->unread(size);
  } else {
    const DummyWeights::Bytes bytes = checkpoint_.dummy()->bytes(own.format, vector, size);
    own.bytes = bytes.span;
    own.period = bytes.period;
  }
  return true;
}

}  // namespace baize
