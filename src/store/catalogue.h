// The catalogue: short names of models and where each comes from. It is src/store/catalogue.json, compiled into the
// program; nothing else in the code knows these models. Immutable after the first call. Any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace baize::store {

struct CatalogueEntry {
  std::string name;                  // the name in the store
  std::vector<std::string> aliases;  // other names for it
  std::string about;                 // one line for people
  std::string source;                // what `baize pull` would be given
  std::string sha256;                // of the one file; empty when the source pins nothing
  int64_t bytes = -1;                // of the one file; -1 when unknown
};

/// Parses the catalogue's JSON. Throws Error(kCorrupt) for fields of the wrong form or a name used twice.
std::vector<CatalogueEntry> parse_catalogue(std::string_view json);

/// The built-in catalogue.
std::span<const CatalogueEntry> catalogue();

/// The entry with this name or alias, or null.
const CatalogueEntry* find_in_catalogue(std::string_view name);

}  // namespace baize::store
