// StopStrings: cuts a stream of text at the first stop string. It holds back text that may become one, so that no part
// of a stop string is ever given out. The result does not depend on how the stream is cut into pieces. Belongs to one
// thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace baize {

class StopStrings {
 public:
  /// Empty strings are ignored.
  explicit StopStrings(std::vector<std::string> stops);

  /// The text that is safe to give out after `text` came. Of several stop strings the one that is complete first
  /// counts, and the longest of those. After a match everything is dropped.
  std::string push(std::string_view text);

  /// The text still held back, at the end of the stream.
  std::string flush();

  /// Whether a stop string came, and which.
  bool stopped() const { return !matched_.empty(); }
  const std::string& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;  // a suffix of the stream that begins a stop string
  std::string matched_;
};

}  // namespace baize
