// UTF-8: finding invalid bytes, and putting characters together from bytes that arrive in pieces. Utf8Stream belongs to
// one thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace baize {

/// Position of the first byte that is not part of a valid character; nullopt if `text` is valid UTF-8.
std::optional<size_t> find_invalid_utf8(std::string_view text);

/// Emits bytes as soon as they make whole characters. What can no longer become a character is replaced by U+FFFD, one
/// for each maximal subpart (Unicode 15, section 3.9), as in Python and Rust.
class Utf8Stream {
 public:
  /// Appends to `out` the text that `bytes` completes.
  void push(std::string_view bytes, std::string& out);

  /// Appends U+FFFD to `out` if an unfinished character is left; the stream is then as new.
  void flush(std::string& out);

 private:
  std::string pending_;  // the beginning of a character, at most 3 bytes
};

}  // namespace baize
