// Small text helpers shared by messages: byte counts for people, and the closest known name to a misspelt one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace baize {

/// "98.4 MB" (decimal units, three significant digits); "512 B" below 1,000.
std::string human_bytes(int64_t bytes);

/// "35,463,168": thousands separated by commas.
std::string human_count(int64_t count);

/// Up to `count` of `known`, nearest by edit distance first (ties in given order).
std::vector<std::string> closest_names(std::string_view name, std::span<const std::string> known, size_t count = 3);

/// Splits at every `separator`; "a,,b" gives three parts, "" gives none.
std::vector<std::string_view> split(std::string_view text, char separator);

/// Whole file as bytes. Throws Error(kNotFound or kIo) naming the path.
std::string read_file(const std::string& path);

}  // namespace baize
