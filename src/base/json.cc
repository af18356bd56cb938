#include "base/json.h"

#include "base/error.h"

namespace baize {

namespace {
constexpr int kMaxDepth = 200;
}

Json parse_json(std::string_view text, std::string_view where) {
  bool too_deep = false;
  const auto limit_depth = [&](int depth, Json::parse_event_t event, Json&) {
    const bool opens = event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    too_deep = too_deep || (opens && depth >= kMaxDepth);  // depth counts the containers already open
    return !too_deep;  // false discards the value, which also keeps the recursion of its destructor small
  };
  try {
    Json value = Json::parse(text, limit_depth);
    if (too_deep) fail(ErrorKind::kCorrupt, "{}: JSON nested deeper than {} levels", where, kMaxDepth);
    return value;
  } catch (const Json::exception& e) {
    fail(ErrorKind::kCorrupt, "{}: not valid JSON: {}", where, e.what());
  }
}

}  // namespace baize
