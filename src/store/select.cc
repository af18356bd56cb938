#include "store/select.h"

#include <algorithm>
#include <cctype>
#include <span>

#include "base/error.h"
#include "base/text.h"
#include "store/source.h"

namespace baize::store {

namespace {
using Files = std::vector<RemoteFile>;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

bool is_top(const RemoteFile& file) { return file.path.find('/') == std::string::npos; }
bool is_gguf(const RemoteFile& file) { return file.path.ends_with(".gguf"); }
bool is_weights(const RemoteFile& file) { return file.path.ends_with(".safetensors"); }

bool is_text_part(const RemoteFile& file) {
  for (const char* ending : {".json", ".jinja", ".txt", ".model", ".tiktoken"}) {
    if (file.path.ends_with(ending)) return true;
  }
  return false;
}

template <typename Keep>
Files filtered(const Files& files, Keep keep) {
  Files kept;
  std::copy_if(files.begin(), files.end(), std::back_inserter(kept), keep);
  return kept;
}

// One name for each GGUF: of split ones the first part.
std::vector<std::string> gguf_names(const Files& all) {
  std::vector<std::string> names;
  for (const RemoteFile& file : all) {
    if (is_gguf(file) && !split_parts(file.path).empty()) names.push_back(file.path);
  }
  return names;
}

std::string listed(std::span<const std::string> names) {
  constexpr size_t kMost = 12;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) text += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kMost) text += fmt::format(" and {} more", names.size() - kMost);
  return text;
}

Files with_parts(const Files& all, const std::string& path, std::string_view where) {
  const std::vector<std::string> parts = split_parts(path);
  if (parts.empty()) {
    fail(ErrorKind::kInvalidArgument, "{} is a later part of a split model; ask for its part 00001", path);
  }
  Files files;
  for (const std::string& part : parts) {
    const auto found = std::find_if(all.begin(), all.end(), [&](const RemoteFile& file) { return file.path == part; });
    if (found == all.end()) fail(ErrorKind::kNotFound, "{} has no file {}", where, part);
    files.push_back(*found);
  }
  return files;
}

Files choose_one(const Files& all, const std::string& wanted, std::string_view where) {
  const bool exact = std::any_of(all.begin(), all.end(), [&](const RemoteFile& file) { return file.path == wanted; });
  if (exact) return with_parts(all, wanted, where);
  std::vector<std::string> fitting;
  for (const std::string& name : gguf_names(all)) {
    if (lower(name).find(lower(wanted)) != std::string::npos) fitting.push_back(name);
  }
  if (fitting.size() == 1) return with_parts(all, fitting[0], where);
  if (!fitting.empty()) {
    fail(ErrorKind::kInvalidArgument, "\"{}\" fits several files of {}: {}", wanted, where, listed(fitting));
  }
  std::vector<std::string> names;
  for (const RemoteFile& file : all) names.push_back(file.path);
  fail(ErrorKind::kNotFound, "{} has no file \"{}\"; the closest: {}", where, wanted,
       listed(closest_names(wanted, names)));
}

Files choose_folder(const Files& top) {
  // Some repositories carry the weights twice: as model*.safetensors and as the vendor's consolidated*.safetensors.
  const auto is_main = [](const RemoteFile& file) { return is_weights(file) && file.path.starts_with("model"); };
  const bool has_main = std::any_of(top.begin(), top.end(), is_main);
  return filtered(top, [&](const RemoteFile& file) {
    if (is_weights(file)) return !has_main || !file.path.starts_with("consolidated");
    return is_text_part(file);
  });
}
}  // namespace

Files choose_files(const Files& all, std::string_view wanted, std::string_view where) {
  if (!wanted.empty()) return choose_one(all, std::string(wanted), where);
  const Files top = filtered(all, is_top);
  if (std::any_of(top.begin(), top.end(), is_weights)) {
    const auto is_config = [](const RemoteFile& file) { return file.path == "config.json"; };
    if (!std::any_of(top.begin(), top.end(), is_config)) {
      fail(ErrorKind::kUnsupported, "{} has safetensors but no config.json, so it is not a whole model", where);
    }
    return choose_folder(top);
  }
  const std::vector<std::string> ggufs = gguf_names(all);
  if (ggufs.size() == 1) return with_parts(all, ggufs[0], where);
  if (!ggufs.empty()) {
    fail(ErrorKind::kInvalidArgument, "{} has several GGUF files, name one of them: {}", where, listed(ggufs));
  }
  fail(ErrorKind::kUnsupported,
       "{} has neither .safetensors nor .gguf files, the formats Baize reads; look for a converted copy of the model",
       where);
}

}  // namespace baize::store
