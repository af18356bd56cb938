// ByteReader: sequential little-endian reads from untrusted bytes; each read is checked against the end first, so that
// no length in a file can lead outside of it. And the helpers that put names from a file into a message safely.
// A value type used by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace baize {

/// `text` in double quotes, with control characters and invalid UTF-8 escaped and at most 100 bytes of it: for
/// messages.
std::string in_quotes(std::string_view text);

/// `text` with every invalid UTF-8 sequence replaced by U+FFFD.
std::string utf8_lossy(std::string_view text);

/// Throws Error(kCorrupt) when `bytes` are the small text that Git LFS leaves in place of a large file.
void refuse_lfs_pointer(std::span<const std::byte> bytes, std::string_view path);

class ByteReader {
 public:
  /// `where` names the file in messages and must outlive the reader.
  ByteReader(std::span<const std::byte> bytes, std::string_view where) : bytes_(bytes), where_(where) {}

  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }

  /// The next `count` bytes. Throws Error(kCorrupt): the file ends inside `what`.
  std::span<const std::byte> take(uint64_t count, std::string_view what) {
    if (count > remaining()) fail_truncated(count, what);
    const auto part = bytes_.subspan(position_, static_cast<size_t>(count));
    position_ += static_cast<size_t>(count);
    return part;
  }

  template <typename T>
  T scalar(std::string_view what) {
    static_assert(std::is_arithmetic_v<T>);
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  /// A string as GGUF writes it: its length in 8 bytes, then the bytes. A view into the file.
  std::string_view string(std::string_view what) {
    const auto length = scalar<uint64_t>(what);
    const auto text = take(length, what);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

 private:
  [[noreturn]] void fail_truncated(uint64_t count, std::string_view what) const;

  std::span<const std::byte> bytes_;
  std::string_view where_;
  size_t position_ = 0;
};

}  // namespace baize
