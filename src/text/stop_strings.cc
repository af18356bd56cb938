#include "text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace baize {
namespace {

/// Length of the longest end of `text` that is the beginning of `stop`, but not all of it.
size_t partial_match(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.ends_with(stop.substr(0, length))) return length;
  }
  return 0;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string StopStrings::push(std::string_view text) {
  if (stopped()) return {};
  held_ += text;
  size_t begin = std::string::npos;
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t stop_end = at + stop.size();
    if (stop_end > end || (stop_end == end && at >= begin)) continue;
    begin = at;
    end = stop_end;
  }
  if (end != std::string::npos) {
    matched_ = held_.substr(begin, end - begin);
    return std::exchange(held_, {}).substr(0, begin);
  }
  size_t hold = 0;
  for (const std::string& stop : stops_) hold = std::max(hold, partial_match(held_, stop));
  std::string safe = held_.substr(0, held_.size() - hold);
  held_.erase(0, safe.size());
  return safe;
}

std::string StopStrings::flush() { return std::exchange(held_, {}); }

}  // namespace baize
