#include "base/json.h"

#include "base/error.h"

namespace baize {

namespace {
constexpr int kMaxDepth = 200;

template <typename J>
J parse(std::string_view text, std::string_view where) {
  bool too_deep = false;
  const auto limit_depth = [&](int depth, typename J::parse_event_t event, J&) {
    const bool opens = event == J::parse_event_t::object_start || event == J::parse_event_t::array_start;
    too_deep = too_deep || (opens && depth >= kMaxDepth);  // depth counts the containers already open
    return !too_deep;  // false discards the value, which also keeps the recursion of its destructor small
  };
  try {
    J value = J::parse(text, limit_depth);
    if (too_deep) fail(ErrorKind::kCorrupt, "{}: JSON nested deeper than {} levels", where, kMaxDepth);
    return value;
  } catch (const typename J::exception& e) {
    fail(ErrorKind::kCorrupt, "{}: not valid JSON: {}", where, e.what());
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view where) { return parse<Json>(text, where); }

OrderedJson parse_ordered_json(std::string_view text, std::string_view where) {
  return parse<OrderedJson>(text, where);
}

}  // namespace baize
