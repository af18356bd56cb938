#include "base/json.h"

#include <array>
#include <string>
#include <type_traits>

#include "base/error.h"

template class nlohmann::basic_json<>;

namespace baize {

namespace {
constexpr size_t kMaxDepth = 200;
constexpr size_t kMaxComparisons = 20'000'000;  // of keys: one object of 6,300 members, or many small ones
constexpr size_t kMaxMessage = 300;

// Reads only brackets, colons and strings, so that a hostile text is refused before it costs much: nesting costs the
// stack, and an ordered object compares each new key with all before it. (A callback of nlohmann's parser could watch
// it too, but makes a list of objects quadratic.) What is no JSON at all is the parser's to refuse.
void check_limits(std::string_view text, std::string_view where, bool ordered) {
  std::array<size_t, kMaxDepth> members{};  // of the objects now open
  size_t depth = 0;
  size_t comparisons = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      for (++i; i < text.size() && text[i] != '"'; ++i) {
        if (text[i] == '\\') ++i;
      }
    } else if (c == '[' || c == '{') {
      if (depth == kMaxDepth) fail(ErrorKind::kCorrupt, "{}: JSON nested deeper than {} levels", where, kMaxDepth);
      members[depth++] = 0;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    } else if (c == ':' && ordered && depth > 0) {
      comparisons += members[depth - 1]++;
      if (comparisons > kMaxComparisons) fail(ErrorKind::kCorrupt, "{}: JSON objects with too many members", where);
    }
  }
}

template <typename J>
J parse(std::string_view text, std::string_view where) {
  check_limits(text, where, std::is_same_v<J, OrderedJson>);
  try {
    return J::parse(text);
  } catch (const typename J::exception& e) {
    std::string reason = e.what();  // repeats what it read last, however long that is
    if (reason.size() > kMaxMessage) reason = reason.substr(0, kMaxMessage) + "...";
    fail(ErrorKind::kCorrupt, "{}: not valid JSON: {}", where, reason);
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view where) { return parse<Json>(text, where); }

OrderedJson parse_ordered_json(std::string_view text, std::string_view where) {
  return parse<OrderedJson>(text, where);
}

}  // namespace baize
