#include "store/manifest.h"

#include <cctype>
#include <ctime>

#include "base/error.h"
#include "base/json.h"
#include "store/digest.h"
#include "store/source.h"

namespace baize::store {

int64_t Manifest::bytes() const {
  int64_t sum = 0;
  for (const ModelFile& file : files) sum += file.bytes;
  return sum;
}

std::string to_json(const Manifest& manifest) {
  Json files = Json::array();
  for (const ModelFile& file : manifest.files) {
    Json entry = {{"path", file.path}, {"sha256", file.sha256}, {"bytes", file.bytes}};
    if (!file.etag.empty()) entry["etag"] = file.etag;
    files.push_back(std::move(entry));
  }
  const Json json = {{"name", manifest.name}, {"source", manifest.source}, {"date", manifest.date}, {"files", files}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::optional<int64_t> size_from_json(const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  const double size = value.get<double>();  // also of numbers beyond int64
  if (size < 0 || size > static_cast<double>(kMaxFileBytes)) return std::nullopt;
  return value.get<int64_t>();
}

Manifest parse_manifest(std::string_view text, std::string_view where) {
  Manifest manifest;
  try {
    const Json json = parse_json(text, where);
    manifest.name = json.at("name").get<std::string>();
    manifest.source = json.at("source").get<std::string>();
    manifest.date = json.at("date").get<std::string>();
    for (const Json& entry : json.at("files")) {
      ModelFile file{.path = entry.at("path").get<std::string>(),
                     .sha256 = entry.at("sha256").get<std::string>(),
                     .bytes = size_from_json(entry.at("bytes")).value_or(-1),
                     .etag = entry.value("etag", "")};
      if (!is_safe_relative_path(file.path) || !is_sha256(file.sha256) || file.bytes < 0) {
        fail(ErrorKind::kCorrupt, "{}: the entry of the file \"{}\" is not valid", where, file.path);
      }
      manifest.files.push_back(std::move(file));
    }
  } catch (const Json::exception& e) {
    fail(ErrorKind::kCorrupt, "{}: not a valid manifest: {}", where, e.what());
  }
  if (manifest.files.empty() || manifest.files.size() > kMaxFiles) {
    fail(ErrorKind::kCorrupt, "{}: the manifest lists {} files", where, manifest.files.size());
  }
  return manifest;
}

std::string encode_name(std::string_view name) {
  std::string encoded;
  for (const char c : name) {
    const bool plain =
        std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || (c == '.' && !encoded.empty());
    if (plain) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  const size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return std::string(text, length);
}

}  // namespace baize::store
