#include "model/state.h"

#include "base/check.h"

namespace baize {

namespace {

template <typename Visit>
void for_each_attention(const ModelSpec& spec, const Visit& visit) {
  for (const LayerSpec& layer : spec.layers) {
    for (const Sublayer& sub : layer.sub) {
      if (const AttnSpec* a = std::get_if<AttnSpec>(&sub.block)) visit(*a);
    }
  }
}

}  // namespace

std::vector<StateNeed> state_needs(const ModelSpec& spec, const Precision& precision) {
  std::vector<StateNeed> needs;
  for_each_attention(spec, [&](const AttnSpec& a) {
    needs.push_back({a.window > 0 ? StateNeed::Kind::kWindow : StateNeed::Kind::kPerToken,
                     2 * a.kv_heads * a.head_dim * dtype_bytes(precision.kv), a.window});
  });
  return needs;
}

std::vector<KvView> kv_views(const ModelSpec& spec, const Precision& precision, std::span<const StatePlace> places) {
  std::vector<KvView> views;
  for_each_attention(spec, [&](const AttnSpec& a) {
    BAIZE_CHECK(views.size() < places.size());
    const StatePlace& place = places[views.size()];
    const int64_t element = dtype_bytes(precision.kv);
    BAIZE_CHECK(place.page_stride % element == 0);
    KvView view;
    view.group = place.group;
    view.k = Tensor(place.base, precision.kv, {place.pages, place.block, a.kv_heads, a.head_dim}, place.place);
    view.k.strides = {place.page_stride / element, a.head_dim, place.block * a.head_dim, 1};
    view.v = view.k;
    if (place.base != nullptr) {
      view.v.data = static_cast<char*>(place.base) + place.block * a.kv_heads * a.head_dim * element;
    }
    views.push_back(view);
  });
  return views;
}

}  // namespace baize
