#include "formats/byte_reader.h"

#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"

namespace baize {

std::string in_quotes(std::string_view text) {
  constexpr size_t kMaxBytes = 100;
  const bool cut = text.size() > kMaxBytes;
  std::string shown = Json(text.substr(0, kMaxBytes)).dump(-1, ' ', true, Json::error_handler_t::replace);
  if (cut) shown.insert(shown.size() - 1, "...");
  return shown;
}

std::string utf8_lossy(std::string_view text) {
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

void refuse_lfs_pointer(std::span<const std::byte> bytes, std::string_view path) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with("version https://git-lfs")) return;
  fail(ErrorKind::kCorrupt, "{} is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder", path);
}

void ByteReader::fail_truncated(uint64_t count, std::string_view what) const {
  fail(ErrorKind::kCorrupt,
       "{} is truncated or corrupt: {} needs {} bytes at offset {}, but the file has {} bytes; fetch it again", where_,
       what, human_count(static_cast<int64_t>(std::min<uint64_t>(count, INT64_MAX))),
       human_count(static_cast<int64_t>(position_)), human_count(static_cast<int64_t>(bytes_.size())));
}

}  // namespace baize
