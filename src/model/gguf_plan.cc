#include "model/gguf_plan.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "base/check.h"
#include "base/error.h"
#include "model/binder.h"

namespace baize {

namespace {

template <typename T>
const T* block_of(const ModelSpec& spec, int64_t layer) {
  if (layer < 0) return nullptr;
  for (const Sublayer& sub : spec.layers[static_cast<size_t>(layer)].sub) {
    if (const T* block = std::get_if<T>(&sub.block)) return block;
  }
  return nullptr;
}

// The same bytes under another shape, and a stretch of its rows.
SourceTensor reshaped(const SourceTensor& tensor, const Shape& shape) {
  SourceTensor view = tensor;
  view.shape = shape;
  return view;
}

SourceTensor rows_of(const SourceTensor& tensor, int64_t first, int64_t count) {
  SourceTensor view = tensor;
  view.shape = {count, tensor.shape[1]};
  const auto row = static_cast<size_t>(tensor.format.row_bytes(tensor.shape[1]));
  view.first_row += first;
  view.bytes = tensor.bytes.subspan(static_cast<size_t>(first) * row, static_cast<size_t>(count) * row);
  return view;
}

// A vector as a column, so that its values are rows, or any other tensor as the matrix of its rows.
SourceTensor as_matrix(const SourceTensor& tensor) {
  if (tensor.shape.rank() < 2) return reshaped(tensor, {tensor.shape.elements(), 1});
  return reshaped(tensor, {tensor.row_count(), tensor.width()});
}

std::vector<int64_t> stretch(int64_t first, int64_t count, int64_t step = 1) {
  std::vector<int64_t> rows(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) rows[static_cast<size_t>(i)] = first + i * step;
  return rows;
}

// Row order of one head: pairs (i, i + half) of the rotated rows become neighbours, or the other way round.
std::vector<int64_t> turned_head(int64_t head_dim, int64_t rotated, bool to_neighbours) {
  std::vector<int64_t> order = stretch(0, head_dim);
  for (int64_t i = 0; i < rotated / 2; ++i) {
    const std::array<int64_t, 2> apart = {i, i + rotated / 2}, beside = {2 * i, 2 * i + 1};
    for (size_t j = 0; j < 2; ++j) {
      order[static_cast<size_t>((to_neighbours ? beside : apart)[j])] = (to_neighbours ? apart : beside)[j];
    }
  }
  return order;
}

// The stored forms of one layer's attention, in the folder and in the file.
struct Rotation {
  const AttnSpec *from = nullptr, *to = nullptr;

  bool differs() const {
    return from != nullptr && to != nullptr && from->rope.kind != RopeSpec::Kind::kNone &&
           from->rope.interleaved != to->rope.interleaved;
  }
  /// Appends the order of `heads` heads, whose rows begin at `first`.
  void append(int64_t first, int64_t heads, std::vector<int64_t>& rows) const {
    const std::vector<int64_t> head = turned_head(from->head_dim, from->rope.rot_dim, to->rope.interleaved);
    for (int64_t h = 0; h < heads; ++h) {
      for (const int64_t row : head) rows.push_back(first + h * from->head_dim + row);
    }
  }
};

bool is_norm(std::string_view stem) { return stem.ends_with("norm") || stem.ends_with(".after"); }

// Of a norm in a layer, or of the whole: whether 1 is added to its weights when they are read.
bool plus_one(const ModelSpec& spec, std::string_view stem, int64_t layer) {
  if (layer < 0) return spec.final_norm.plus_one;
  const AttnSpec* attention = block_of<AttnSpec>(spec, layer);
  if (stem.ends_with("q_norm") || stem.ends_with("k_norm")) return attention != nullptr && attention->q_norm.plus_one;
  for (const Sublayer& sub : spec.layers[static_cast<size_t>(layer)].sub) {
    if (sub.pre.plus_one || sub.post.plus_one || sub.after.plus_one) return true;
  }
  return false;
}

}  // namespace

int64_t PlannedPart::row_count() const { return rows.empty() ? source.shape[transposed ? 1 : 0] : std::ssize(rows); }

GgufPlan::GgufPlan(const std::string& architecture, const ModelSpec& spec, const std::vector<FoundTensor>& found,
                   const std::vector<RopeTable>& ropes)
    : architecture_(architecture), spec_(spec) {
  std::set<std::pair<std::string, std::pair<int64_t, int64_t>>> seen;
  // The bias of an expert's choice may be stored where a router's bias is.
  std::set<const SourceTensor*> choices;
  for (const FoundTensor& each : found) {
    if (each.canonical == "moe.choice.bias") choices.insert(each.tensor);
  }
  for (const FoundTensor& each : found) {
    if (each.canonical == "head.weight" && spec.head.tied) continue;
    if (each.canonical == "moe.router.bias" && choices.contains(each.tensor)) continue;
    if (seen.insert({each.canonical, {each.layer, each.expert}}).second) add(each);
  }
  for (const RopeTable& rope : ropes) {
    PlannedTensor& tensor = tensors_.emplace_back();
    tensor.info = {rope.name, GgufType::kF32, {std::ssize(rope.factors)}};
    tensor.stem = "rope";
    tensor.values = rope.factors;
  }
}

PlannedTensor& GgufPlan::planned(const std::string& canonical, int64_t layer, const Shape& shape) {
  const bool beside =
      canonical.starts_with("attn.norm.") && spec_.layers[static_cast<size_t>(layer)].sub.back().pre.present;
  const std::string name =
      gguf_tensor_name(architecture_, beside ? "attn.norm+" + canonical.substr(9) : canonical, layer);
  if (name.empty()) {
    fail(ErrorKind::kUnsupported, "GGUF has no name, or Baize knows none, for the tensor {}{}", canonical,
         layer < 0 ? "" : fmt::format(" of layer {}", layer));
  }
  for (PlannedTensor& tensor : tensors_) {
    if (tensor.info.name == name) return tensor;
  }
  PlannedTensor& tensor = tensors_.emplace_back();
  tensor.info = {name, GgufType::kF32, shape};
  tensor.stem = canonical.substr(0, canonical.rfind('.'));
  tensor.layer = layer;
  return tensor;
}

void GgufPlan::add(const FoundTensor& found) {
  const size_t dot = found.canonical.rfind('.');
  const std::string stem = found.canonical.substr(0, dot), end = found.canonical.substr(dot);
  if (stem == "moe.gate" || stem == "moe.up" || stem == "moe.down")
    return add_expert(found, "moe.all" + stem.substr(3) + end);
  if (stem.ends_with("_norm.head")) return add_head_norm(found, stem.substr(0, stem.rfind('.')) + end);
  if (stem.starts_with("moe.all.")) return add_all_experts(found, stem, end);
  if (stem == "mla.kv_b") return add_latent(found);
  const SourceTensor& tensor = *found.tensor;
  PlannedPart part{as_matrix(tensor)};
  Shape shape = tensor.shape;
  const bool matrix = tensor.shape.rank() == 2;
  part.transposed = spec_.transposed && matrix && found.layer >= 0 && !is_norm(stem);
  if (part.transposed) shape = {tensor.shape[1], tensor.shape[0]};
  if (stem == "rec.conv") shape = {tensor.shape[0], tensor.shape.elements() / tensor.shape[0]};
  if (matrix && tensor.shape[0] == 1) shape = {tensor.shape[1]};  // GGUF's readers want a vector
  planned(found.canonical, found.layer, shape).parts.push_back(std::move(part));
}

// One of many experts, stored apart: another part of the tensor of all.
void GgufPlan::add_expert(const FoundTensor& found, const std::string& all) {
  const MoeFfn* moe = block_of<MoeFfn>(spec_, found.layer);
  BAIZE_CHECK(moe != nullptr && found.tensor->shape.rank() >= 1 && found.tensor->shape.rank() <= 2);
  const Shape& one = found.tensor->shape;
  const Shape shape = one.rank() == 2 ? Shape{moe->experts, one[0], one[1]} : Shape{moe->experts, one[0]};
  planned(all, found.layer, shape).parts.push_back({as_matrix(*found.tensor)});
}

// What makes keys and values of the latent vector, in one matrix: apart, a head each, with the keys turned.
void GgufPlan::add_latent(const FoundTensor& found) {
  const MlaSpec* a = block_of<MlaSpec>(spec_, found.layer);
  BAIZE_CHECK(a != nullptr);
  const int64_t rows = a->nope_dim + a->v_dim;
  const auto take = [&](const char* name, const Shape& shape, int64_t first, int64_t count, bool turned) {
    PlannedTensor& tensor = planned(name, found.layer, shape);
    for (int64_t h = 0; h < a->heads; ++h)
      tensor.parts.push_back({rows_of(*found.tensor, h * rows + first, count), turned});
  };
  take("mla.k_b.weight", {a->heads, a->kv_rank, a->nope_dim}, 0, a->nope_dim, true);
  take("mla.v_b.weight", {a->heads, a->v_dim, a->kv_rank}, a->nope_dim, a->v_dim, false);
}

// The norm of one head of many, stored apart: another row of the tensor of all.
void GgufPlan::add_head_norm(const FoundTensor& found, const std::string& all) {
  const AttnSpec* a = block_of<AttnSpec>(spec_, found.layer);
  BAIZE_CHECK(a != nullptr && found.tensor->shape.rank() == 1);
  const int64_t heads = all.starts_with("attn.q") ? a->heads : a->kv_heads;
  planned(all, found.layer, {heads, found.tensor->shape[0]})
      .parts.push_back({reshaped(*found.tensor, {1, found.tensor->shape[0]})});
}

// All experts in one tensor: [experts, n, k], turned or not, with gate and up apart or in one.
void GgufPlan::add_all_experts(const FoundTensor& found, const std::string& stem, const std::string& end) {
  const MoeFfn* moe = block_of<MoeFfn>(spec_, found.layer);
  BAIZE_CHECK(moe != nullptr);
  const int64_t ff = moe->expert.ff, hidden = spec_.dims.hidden, experts = moe->experts;
  const bool down = stem.ends_with("down"), both = stem.ends_with("gate_up"), bias = end == ".bias";
  const int64_t n = down ? hidden : both ? 2 * ff : ff, k = bias ? 1 : down ? ff : hidden;
  const bool turned = !bias && (both || down) && (moe->transposed || (down && moe->turned_down));
  const SourceTensor all = reshaped(*found.tensor, {experts * (turned ? k : n), turned ? n : k});
  const auto take = [&](const std::string& name, int64_t first, int64_t count, int64_t step) {
    const Shape shape = bias ? Shape{experts, count} : Shape{experts, count, k};
    PlannedTensor& tensor = planned(name, found.layer, shape);
    for (int64_t e = 0; e < experts; ++e) {
      PlannedPart part{rows_of(all, e * (turned ? k : n), turned ? k : n), turned};
      if (count != n) part.rows = stretch(first, count, step);
      tensor.parts.push_back(std::move(part));
    }
  };
  if (!both) return take(stem + end, 0, n, 1);
  const bool pairs = moe->expert.pairs;
  take("moe.all.gate" + end, 0, ff, pairs ? 2 : 1);
  take("moe.all.up" + end, pairs ? 1 : ff, ff, pairs ? 2 : 1);
}

void GgufPlan::choose_types(const GgufMix& mix, std::vector<ConvertFallback>& fallbacks) {
  // What chooses, and what is looked up or added by position, stays exact.
  constexpr std::string_view kExact[] = {"moe.router", "embed.positions", "rec.conv", "rope"};
  const bool own_head = std::ranges::any_of(tensors_, [](const PlannedTensor& t) { return t.stem == "head"; });
  int64_t experts = 0;
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    if (const auto* moe = block_of<MoeFfn>(spec_, static_cast<int64_t>(i))) experts = moe->experts;
  }
  for (PlannedTensor& tensor : tensors_) {
    const bool exact = std::ranges::find(kExact, tensor.stem) != std::end(kExact);
    if (tensor.info.shape.rank() < 2 || is_norm(tensor.stem) || tensor.info.name.ends_with(".bias") || exact) continue;
    const GgufType wanted = mix_type(mix, {.stem = tensor.stem,
                                           .layer = tensor.layer,
                                           .layers = std::ssize(spec_.layers),
                                           .experts = experts,
                                           .is_head = tensor.stem == (own_head ? "head" : "embed")});
    tensor.info.type = fitting_type(wanted, tensor.info.shape[-1]);
    if (tensor.info.type != wanted) fallbacks.push_back({tensor.info.name, wanted, tensor.info.type});
  }
}

std::vector<GgufTensorInfo> GgufPlan::infos() const {
  std::vector<GgufTensorInfo> infos;
  for (const PlannedTensor& tensor : tensors_) infos.push_back(tensor.info);
  return infos;
}

void GgufPlan::settle(const ModelSpec& file) {
  for (PlannedTensor& tensor : tensors_) {
    const std::string& stem = tensor.stem;
    const bool bias = tensor.info.name.ends_with(".bias");
    if (is_norm(stem) && !bias && plus_one(spec_, stem, tensor.layer) && !plus_one(file, stem, tensor.layer)) {
      tensor.add = 1;
    }
    if (const auto *from = block_of<DenseFfn>(spec_, tensor.layer), *to = block_of<DenseFfn>(file, tensor.layer);
        stem == "ffn.gate_up" && from != nullptr && to != nullptr && from->turned != to->turned) {
      for (int64_t r = 0; r < 2 * from->ff; ++r) tensor.parts[0].rows.push_back((r + from->ff) % (2 * from->ff));
    }
    const Rotation rotation{block_of<AttnSpec>(spec_, tensor.layer), block_of<AttnSpec>(file, tensor.layer)};
    if (rotation.from == nullptr || rotation.to == nullptr) continue;
    const AttnSpec& a = *rotation.from;
    std::vector<int64_t> rows;
    if (stem == "attn.qkv") {
      const int64_t q = a.heads * a.head_dim, k = a.kv_heads * a.head_dim;
      const int64_t v = a.kv_heads * (a.v_dim > 0 ? a.v_dim : a.head_dim);
      if (!(a.layout == rotation.to->layout)) rows = qkv_rows(a.layout, {q, k, v});
      if (rotation.differs()) {
        std::vector<int64_t> order;
        rotation.append(0, a.heads, order);
        rotation.append(q, a.kv_heads, order);
        for (const int64_t row : stretch(q + k, v)) order.push_back(row);
        if (!rows.empty())
          std::ranges::transform(order, order.begin(), [&](int64_t row) { return rows[static_cast<size_t>(row)]; });
        rows = order;
      }
    } else if (rotation.differs() && (stem == "attn.q" || stem == "attn.k")) {
      rotation.append(0, stem == "attn.q" ? a.heads : a.kv_heads, rows);
    } else if (rotation.differs() && (stem == "attn.q_norm" || stem == "attn.k_norm")) {
      const int64_t all = stem == "attn.q_norm" ? a.heads : a.kv_heads;
      rotation.append(0, a.norm_axis == Axis::kHead ? 1 : all, rows);
    }
    if (!rows.empty()) tensor.parts[0].rows = rows;
  }
}

}  // namespace baize
