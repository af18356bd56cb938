#include "store/catalogue.h"

#include <set>

#include "base/error.h"
#include "base/json.h"
#include "store/digest.h"

namespace baize::store {

extern const char* const kCatalogueJson;  // made from catalogue.json at build

namespace {
CatalogueEntry parse_entry(const Json& json) {
  CatalogueEntry entry;
  entry.name = json.at("name").get<std::string>();
  entry.aliases = json.value("aliases", std::vector<std::string>{});
  entry.about = json.value("about", "");
  entry.source = json.at("source").get<std::string>();
  entry.sha256 = json.value("sha256", "");
  entry.bytes = json.value("bytes", int64_t{-1});
  if (!entry.sha256.empty() && !is_sha256(entry.sha256)) {
    fail(ErrorKind::kCorrupt, "catalogue: the sha256 of \"{}\" is not 64 hex digits", entry.name);
  }
  return entry;
}
}  // namespace

std::vector<CatalogueEntry> parse_catalogue(std::string_view json) {
  std::vector<CatalogueEntry> entries;
  std::set<std::string> names;
  try {
    const Json parsed = parse_json(json, "catalogue");
    for (const Json& model : parsed.at("models")) entries.push_back(parse_entry(model));
  } catch (const Json::exception& e) {
    fail(ErrorKind::kCorrupt, "catalogue: {}", e.what());
  }
  for (const CatalogueEntry& entry : entries) {
    std::vector<std::string> own = entry.aliases;
    own.push_back(entry.name);
    for (const std::string& name : own) {
      if (!names.insert(name).second) fail(ErrorKind::kCorrupt, "catalogue: the name \"{}\" is used twice", name);
    }
  }
  return entries;
}

std::span<const CatalogueEntry> catalogue() {
  static const std::vector<CatalogueEntry> entries = parse_catalogue(kCatalogueJson);
  return entries;
}

const CatalogueEntry* find_in_catalogue(std::string_view name) {
  for (const CatalogueEntry& entry : catalogue()) {
    if (entry.name == name) return &entry;
    for (const std::string& alias : entry.aliases) {
      if (alias == name) return &entry;
    }
  }
  return nullptr;
}

}  // namespace baize::store
