// Manifest: what the store knows of one model: its name, where it came from, and its files by digest. One JSON file
// each. Plain data; any thread.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace baize::store {

/// Larger sizes and more files in manifests and hub answers are refused as nonsense; sums of such sizes fit an int64.
constexpr int64_t kMaxFileBytes = int64_t{1} << 44;
constexpr size_t kMaxFiles = 100'000;

struct ModelFile {
  std::string path;    // relative path inside the model, '/' between parts
  std::string sha256;  // names the blob
  int64_t bytes = 0;
  std::string etag;  // what the server called this version, to ask whether it changed; often empty
};

struct Manifest {
  std::string name;
  std::string source;  // as given to `baize pull`; a local path is absolute
  std::string date;    // of the pull, UTC, "2026-11-23T10:05:00Z"
  std::vector<ModelFile> files;

  /// Sum of the files' sizes.
  int64_t bytes() const;
};

std::string to_json(const Manifest& manifest);

/// Throws Error(kCorrupt) naming `where` unless every field has its form (digests, safe paths, sizes).
Manifest parse_manifest(std::string_view json, std::string_view where);

/// A file size in JSON; nullopt unless it is an integer from 0 to kMaxFileBytes.
std::optional<int64_t> size_from_json(const nlohmann::json& value);

/// A model's name as one file name: everything but letters, digits, '.', '_' and '-' becomes %XX. Reversible.
std::string encode_name(std::string_view name);

/// Now, as Manifest::date.
std::string utc_now();

}  // namespace baize::store
