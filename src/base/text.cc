#include "base/text.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>

#include "base/error.h"

namespace baize {

std::string human_bytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 999.5 && unit < 6) {
    value /= 1000;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", bytes);
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

std::string human_count(int64_t count) {
  std::string digits = std::to_string(count);
  const int first = digits.front() == '-' ? 1 : 0;
  for (int at = static_cast<int>(digits.size()) - 3; at > first; at -= 3) digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

namespace {
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}
}  // namespace

std::vector<std::string> closest_names(std::string_view name, std::span<const std::string> known, size_t count) {
  const std::string_view wanted = name.substr(0, 256);
  std::vector<std::pair<size_t, size_t>> ranked;
  for (size_t i = 0; i < known.size(); ++i) ranked.emplace_back(edit_distance(wanted, known[i]), i);
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> closest;
  for (size_t i = 0; i < std::min(count, ranked.size()); ++i) closest.push_back(known[ranked[i].second]);
  return closest;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  if (text.empty()) return parts;
  for (size_t start = 0;;) {
    const size_t end = text.find(separator, start);
    parts.push_back(text.substr(start, end - start));
    if (end == std::string_view::npos) return parts;
    start = end + 1;
  }
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) fail(errno == ENOENT ? ErrorKind::kNotFound : ErrorKind::kIo, "cannot open {}: {}", path, strerror(errno));
  if (std::filesystem::is_directory(path)) fail(ErrorKind::kIo, "cannot read {}: it is a folder, not a file", path);
  std::ostringstream text;
  text << in.rdbuf();
  if (in.bad() || text.bad()) fail(ErrorKind::kIo, "cannot read {}: {}", path, strerror(errno));
  return std::move(text).str();
}

}  // namespace baize
