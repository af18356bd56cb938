#include "model/state.h"

#include <algorithm>
#include <optional>

#include "base/check.h"

namespace baize {

namespace {

// One cached state: heads of keys and of values a token.
struct Kv {
  int64_t heads, k_dim, v_dim;
  bool values_in_keys = false;  // latent attention: the first v_dim of a key
  int64_t window = 0;
  int64_t fixed = 0;  // values of a state of fixed size; there are no keys and values then
  int64_t stride = 1;
};

std::optional<Kv> kv_of(const AttnSpec& a) {
  if (a.kv_from >= 0) return std::nullopt;
  return Kv{a.kv_heads, a.head_dim, a.v_dim > 0 ? a.v_dim : a.head_dim, false, a.window};
}
std::optional<Kv> kv_of(const MlaSpec& a) { return Kv{1, a.kv_rank + a.rope_dim, a.kv_rank, true}; }
Kv fixed(int64_t values) { return {.heads = 0, .k_dim = 0, .v_dim = 0, .fixed = values}; }
std::optional<Kv> kv_of(const RecurrenceSpec& r) {
  const int64_t channels = 2 * r.key_heads * r.key_dim + r.heads * r.value_dim;
  const int64_t each = r.key_dim * r.value_dim + r.block * (r.key_dim + r.value_dim);
  return fixed(std::max<int64_t>(0, r.conv - 1) * channels + r.heads * each);
}
std::optional<Kv> kv_of(const MambaSpec& m) { return fixed(m.width * (m.conv - 1 + m.state)); }
std::optional<Kv> kv_of(const ShortConvSpec& c) { return fixed(c.width * (c.conv - 1)); }
std::optional<Kv> kv_of(const LruSpec& r) { return fixed(r.width * r.conv); }
std::optional<Kv> kv_of(const RwkvSpec& r) { return fixed(r.hidden + (r.time ? 3 * r.width : 0)); }
std::optional<Kv> kv_of(const DenseFfn&) { return std::nullopt; }
std::optional<Kv> kv_of(const MoeFfn&) { return std::nullopt; }
std::optional<Kv> kv_of(const LayerInputSpec&) { return std::nullopt; }
std::optional<Kv> kv_of(const MatrixSpec&) { return std::nullopt; }
std::optional<Kv> kv_of(const AttnExpertsSpec& a) { return kv_of(a.attention); }

template <typename T>
std::vector<Kv> states_of(const T& block) {
  const std::optional<Kv> kv = kv_of(block);
  return kv ? std::vector<Kv>{*kv} : std::vector<Kv>{};
}
std::vector<Kv> states_of(const AttnSpec& a) {
  const std::optional<Kv> kv = kv_of(a);
  std::vector<Kv> states;
  if (kv) states.push_back(*kv);
  if (a.keep > 0) states.push_back({1, a.kv_heads, 0, true, a.window});
  return states;
}
std::vector<Kv> states_of(const MlaSpec& a) {
  std::vector<Kv> states = {*kv_of(a)};
  if (a.indexer.top_k > 0 && !a.indexer.shared) states.push_back({1, a.indexer.head_dim, 0, true});
  return states;
}
std::vector<Kv> states_of(const CompressedAttnSpec& a) {
  std::vector<Kv> states = {{1, a.head_dim, a.head_dim, true, a.window}};
  if (a.rate == 0) return states;
  const int64_t dim = a.head_dim + (a.indexer.top_k > 0 ? a.indexer.head_dim : 0);  // of both compressors
  const int64_t times = a.overlap ? 2 : 1;
  states.push_back({1, 2 * times * dim, 0, true, times * a.rate});
  states.push_back({1, dim, dim, true, 0, 0, a.rate});
  return states;
}

template <typename Visit>
void for_each_state(const ModelSpec& spec, const Visit& visit) {
  for (const LayerSpec& layer : spec.layers) {
    for (const Sublayer& sub : layer.sub) {
      for (const Kv& kv : std::visit([](const auto& block) { return states_of(block); }, sub.block)) visit(kv);
    }
  }
}

}  // namespace

std::vector<StateNeed> state_needs(const ModelSpec& spec, const Precision& precision) {
  std::vector<StateNeed> needs;
  for_each_state(spec, [&](const Kv& kv) {
    if (kv.fixed > 0) {
      needs.push_back({StateNeed::Kind::kFixed, kv.fixed * dtype_bytes(DType::kF32), 0});
      return;
    }
    const int64_t values = kv.heads * (kv.k_dim + (kv.values_in_keys ? 0 : kv.v_dim));
    needs.push_back({kv.window > 0 ? StateNeed::Kind::kWindow : StateNeed::Kind::kPerToken,
                     values * dtype_bytes(precision.kv), kv.window, kv.stride});
  });
  return needs;
}

std::vector<KvView> kv_views(const ModelSpec& spec, const Precision& precision, std::span<const StatePlace> places) {
  std::vector<KvView> views;
  for_each_state(spec, [&](const Kv& kv) {
    BAIZE_CHECK(views.size() < places.size());
    const StatePlace& place = places[views.size()];
    const int64_t element = dtype_bytes(precision.kv);
    BAIZE_CHECK(place.page_stride % element == 0);
    KvView view;
    view.group = place.group;
    if (kv.fixed > 0) {
      view.column = place.column;
      view.k = Tensor(place.base, DType::kF32, {place.pages, kv.fixed}, place.place);
      view.k.strides = {place.page_stride / dtype_bytes(DType::kF32), 1};
      views.push_back(view);
      return;
    }
    const int64_t entries = (place.block + kv.stride - 1) / kv.stride;
    if (kv.stride > 1) {
      view.stride = kv.stride;
      view.block = place.block;
    }
    view.k = Tensor(place.base, precision.kv, {place.pages, entries, kv.heads, kv.k_dim}, place.place);
    view.k.strides = {place.page_stride / element, kv.k_dim, entries * kv.k_dim, 1};
    view.v = view.k;
    view.v.shape = {place.pages, entries, kv.heads, kv.v_dim};
    if (!kv.values_in_keys) {
      view.v.strides = {place.page_stride / element, kv.v_dim, place.block * kv.v_dim, 1};
      if (place.base != nullptr) {
        view.v.data = static_cast<char*>(place.base) + place.block * kv.heads * kv.k_dim * element;
      }
    }
    views.push_back(view);
  });
  return views;
}

}  // namespace baize
