// Strong integer ids: Id<Tag> values of different tags do not mix. Trivially copyable.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace baize {

template <typename Tag>
struct Id {
  int64_t value = -1;
  friend auto operator<=>(const Id&, const Id&) = default;
};

using Token = int32_t;  // index into a model's vocabulary

}  // namespace baize

template <typename Tag>
struct std::hash<baize::Id<Tag>> {
  size_t operator()(const baize::Id<Tag>& id) const noexcept { return std::hash<int64_t>{}(id.value); }
};
