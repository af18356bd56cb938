// JSON by nlohmann, with Baize's errors. Include <nlohmann/json_fwd.hpp> in headers, this in source files.
#pragma once

#include <nlohmann/json.hpp>

#include <string_view>

extern template class nlohmann::basic_json<>;  // compiled once, in json.cc, and not in every source file

namespace baize {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // keeps the order of members

/// Parses `text` (UTF-8). `where` names the source for the message. Nesting deeper than 200 is refused, and, where the
/// order is kept, so many members (one object of over 6,300) that comparing their keys would take long.
/// Throws Error(kCorrupt) with the byte position.
Json parse_json(std::string_view text, std::string_view where);
OrderedJson parse_ordered_json(std::string_view text, std::string_view where);

}  // namespace baize
