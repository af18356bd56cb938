#include "base/json.h"

#include "base/error.h"

namespace baize {

namespace {
constexpr int kMaxDepth = 200;
}

Json parse_json(std::string_view text, std::string_view where) {
  bool too_deep = false;
  const auto limit_depth = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
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
