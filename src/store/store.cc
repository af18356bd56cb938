#include "store/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "store/catalogue.h"
#include "store/source.h"

namespace baize::store {

namespace {
// Ends of publish() and remove(): one process at a time, each for an instant.
FileLock lock_store(const Layout& layout) {
  return FileLock::take(layout.locks() / "store.lock", FileLock::Mode::kExclusive);
}

// Whether the source `now` gives a newer version of what `before` gave.
bool is_upgrade(const std::string& name, const std::string& before, const std::string& now) {
  const CatalogueEntry* entry = find_in_catalogue(name);
  if (entry != nullptr && entry->name == name && entry->source == now) return true;  // a newer catalogue's choice
  if (!before.starts_with("pypi:") || !now.starts_with("pypi:")) return false;
  const auto old_one = std::get<PypiSource>(parse_source(before));
  const auto new_one = std::get<PypiSource>(parse_source(now));
  return old_one.package == new_one.package && old_one.file == new_one.file;
}

// Bytes that disappear from the disk with this name of the file; none while it has other names.
int64_t remove_file(const fs::path& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) return 0;
  if (::unlink(path.c_str()) != 0) return 0;
  return info.st_nlink > 1 ? 0 : info.st_size;
}

std::string quoted(std::span<const std::string> names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "\"" : ", \"") + name + "\"";
  return text;
}

[[noreturn]] void fail_unknown(const Store& store, std::string_view name) {
  if (const CatalogueEntry* entry = find_in_catalogue(name)) {
    fail(ErrorKind::kNotFound, "the model {} is not on this machine yet; fetch it ({}) with: baize pull {}",
         entry->name, entry->bytes > 0 ? human_bytes(entry->bytes) : entry->about, name);
  }
  std::vector<std::string> known;
  for (const Manifest& manifest : store.list()) known.push_back(manifest.name);
  for (const CatalogueEntry& entry : catalogue()) {
    if (std::find(known.begin(), known.end(), entry.name) == known.end()) known.push_back(entry.name);
  }
  for (const std::string_view scheme : {"hf:", "ms:", "pypi:", "http://", "https://"}) {
    if (!name.starts_with(scheme)) continue;
    fail(ErrorKind::kNotFound, "{} is not on this machine yet; fetch it with: baize pull {}", name, name);
  }
  fail(ErrorKind::kNotFound,
       "there is no model \"{}\"; the closest names: {}; `baize list` shows what is here, `baize pull SOURCE` fetches "
       "more",
       name, quoted(closest_names(name, known)));
}
}  // namespace

Store::Store(fs::path root) : layout_{std::move(root)} { layout_.root = absolute_path(layout_.root.string()); }

fs::path Store::default_root() {
  for (const auto& [variable, below] :
       {std::pair{"BAIZE_HOME", ""}, {"XDG_CACHE_HOME", "baize"}, {"HOME", ".cache/baize"}}) {
    const std::string value = env(variable);
    if (!value.empty()) return *below == '\0' ? fs::path(value) : fs::path(value) / below;
  }
  fail(ErrorKind::kInvalidArgument,
       "neither BAIZE_HOME nor HOME is set, so there is no place for models; set BAIZE_HOME");
}

fs::path Store::manifest_path(std::string_view name) const {
  return layout_.manifests() / (encode_name(name) + ".json");
}

// The folder's name follows from the content, so a changed model gets a new folder and readers of the old one are not
// cut.
fs::path Store::links_path(const Manifest& manifest) const {
  Sha256 digest;
  for (const ModelFile& file : manifest.files) digest.update(file.sha256 + " " + file.path + "\n");
  return layout_.models() / encode_name(manifest.name) / digest.hex().substr(0, 12);
}

std::vector<Manifest> Store::list() const {
  std::vector<Manifest> manifests;
  std::error_code error;
  for (fs::directory_iterator it(layout_.manifests(), error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() != ".json") continue;
    try {
      Manifest manifest = parse_manifest(read_file(it->path().string()), it->path().string());
      if (manifest_path(manifest.name) != it->path()) {
        fail(ErrorKind::kCorrupt, "{} holds the manifest of {}", it->path().string(), manifest.name);
      }
      manifests.push_back(std::move(manifest));
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::kNotFound) log::warn("skipped: {}", e.what());  // not found: removed this instant
    }
  }
  std::sort(manifests.begin(), manifests.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return manifests;
}

bool Store::find(std::string_view name, Manifest* found) const {
  const CatalogueEntry* entry = find_in_catalogue(name);
  for (const std::string& wanted : {std::string(name), entry == nullptr ? std::string() : entry->name}) {
    const fs::path path = manifest_path(wanted);
    if (wanted.empty() || encode_name(wanted).size() > 240 || !size_of_file(path)) continue;
    const Manifest manifest = parse_manifest(read_file(path.string()), path.string());
    if (found != nullptr) *found = manifest;
    return true;
  }
  for (const Manifest& manifest : list()) {
    if (manifest.source != name) continue;
    if (found != nullptr) *found = manifest;
    return true;
  }
  return false;
}

bool Store::links_fine(const Manifest& manifest) const {
  const fs::path folder = links_path(manifest);
  return std::all_of(manifest.files.begin(), manifest.files.end(),
                     [&](const ModelFile& file) { return size_of_file(folder / file.path) == file.bytes; });
}

void Store::make_links(const Manifest& manifest) const {
  const fs::path folder = links_path(manifest);
  const fs::path unfinished = unique_path(layout_.temporary(), "links");
  try {
    for (const ModelFile& file : manifest.files) {
      const fs::path link = unfinished / file.path;
      make_folder(link.parent_path());
      // Relative, so that the whole store can be moved. From models/NAME/DIGEST/ and the file's own folders up.
      fs::path target = fs::path("..") / ".." / "..";
      for (const char c : file.path) {
        if (c == '/') target /= "..";
      }
      target = target / "blobs" / ("sha256-" + file.sha256);
      if (::symlink(target.c_str(), link.c_str()) != 0) fail_on(errno, "create the link", link);
    }
    make_folder(folder.parent_path());
    if (::rename(unfinished.c_str(), folder.c_str()) != 0) {
      if (links_fine(manifest)) {  // another process was faster
        remove_all_quietly(unfinished);
        return;
      }
      remove_all_quietly(folder);
      if (::rename(unfinished.c_str(), folder.c_str()) != 0) fail_on(errno, "write", folder);
    }
  } catch (...) {
    remove_all_quietly(unfinished);
    throw;
  }
  sync_folder(folder.parent_path());
}

std::string Store::resolve(std::string_view name) const {
  Manifest manifest;
  if (!find(name, &manifest)) fail_unknown(*this, name);
  if (!links_fine(manifest)) {
    for (const ModelFile& file : manifest.files) {
      const auto bytes = size_of_file(layout_.blob(file.sha256));
      if (bytes == file.bytes) continue;
      fail(ErrorKind::kCorrupt, "{} of the model {} {} in the store; fetch it again with: baize pull {}", file.path,
           manifest.name,
           bytes ? fmt::format("has {} bytes instead of {}", *bytes, file.bytes) : std::string("is missing"),
           manifest.source);
    }
    const FileLock pulling = FileLock::take(layout_.locks() / "pulls.lock", FileLock::Mode::kShared);
    make_links(manifest);
  }
  const fs::path folder = links_path(manifest);
  const bool is_gguf = std::all_of(manifest.files.begin(), manifest.files.end(),
                                   [](const ModelFile& file) { return file.path.ends_with(".gguf"); });
  return (is_gguf ? folder / manifest.files.front().path : folder).string();
}

void Store::check_name_is_free(const Manifest& manifest) const {
  const fs::path path = manifest_path(manifest.name);
  if (!size_of_file(path)) return;
  const Manifest present = parse_manifest(read_file(path.string()), path.string());
  if (present.source == manifest.source || is_upgrade(manifest.name, present.source, manifest.source)) return;
  fail(ErrorKind::kInvalidArgument,
       "the name {} already stands for {}; choose another with --name, or first: baize rm {}", manifest.name,
       present.source, manifest.name);
}

void Store::publish(const Manifest& manifest) const {
  const FileLock lock = lock_store(layout_);
  check_name_is_free(manifest);
  for (const ModelFile& file : manifest.files) {
    if (has_blob(layout_, file.sha256, file.bytes)) continue;
    fail(ErrorKind::kIo, "{} was removed by another process meanwhile; run the same command again", file.path);
  }
  Manifest previous;
  const fs::path path = manifest_path(manifest.name);
  if (size_of_file(path)) previous = parse_manifest(read_file(path.string()), path.string());
  make_links(manifest);
  write_atomically(path, to_json(manifest), layout_.temporary());
  const fs::path links = links_path(manifest);
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(links.parent_path(), ignored)) {
    if (entry.path() != links) remove_all_quietly(entry.path());
  }
  remove_contents(previous.files);
}

// Removes those blobs of `files` that no manifest names any more. The caller holds the store's lock.
int64_t Store::remove_contents(const std::vector<ModelFile>& files) const {
  std::set<std::string> used;
  for (const Manifest& manifest : list()) {
    for (const ModelFile& file : manifest.files) used.insert(file.sha256);
  }
  int64_t freed = 0;
  for (const ModelFile& file : files) {
    if (!used.contains(file.sha256)) freed += remove_file(layout_.blob(file.sha256));
  }
  return freed;
}

RemoveResult Store::remove(std::span<const std::string> names) const {
  std::vector<Manifest> doomed;
  RemoveResult result;
  for (const std::string& name : names) {
    Manifest manifest;
    if (!find(name, &manifest)) fail_unknown(*this, name);
    const auto& done = result.names;
    if (std::find(done.begin(), done.end(), manifest.name) != done.end()) continue;
    result.names.push_back(manifest.name);
    doomed.push_back(std::move(manifest));
  }
  const FileLock lock = lock_store(layout_);
  for (const Manifest& manifest : doomed) {
    const fs::path path = manifest_path(manifest.name);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail_on(errno, "remove", path);
    remove_all_quietly(layout_.models() / encode_name(manifest.name));
    result.freed += remove_contents(manifest.files);
  }
  return result;
}

int64_t Store::remove_unused() const {
  std::error_code ignored;
  if (!fs::exists(layout_.locks(), ignored)) return 0;
  const auto nobody_pulls = FileLock::try_take(layout_.locks() / "pulls.lock", FileLock::Mode::kExclusive);
  if (!nobody_pulls) {
    fail(ErrorKind::kResource,
         "another process is pulling a model, whose parts look unused; try again when it is done");
  }
  const FileLock lock = lock_store(layout_);
  std::set<std::string> used = {"pulls.lock", "store.lock"};
  for (const Manifest& manifest : list()) {
    used.insert(encode_name(manifest.name));
    for (const ModelFile& file : manifest.files) used.insert(layout_.blob(file.sha256).filename().string());
  }
  int64_t freed = 0;
  for (const fs::path& folder : {layout_.blobs(), layout_.models(), layout_.locks(), layout_.temporary()}) {
    std::vector<fs::path> unused;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      if (!used.contains(entry.path().filename().string())) unused.push_back(entry.path());
    }
    for (const fs::path& path : unused) {
      freed += remove_file(path);
      remove_all_quietly(path);  // folders
    }
  }
  return freed;
}

namespace {
// The GGUF file that a folder without config.json stands for, or empty.
std::string lone_gguf(const fs::path& folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string path = it->path().string();
    if (path.ends_with(".gguf") && !split_parts(path).empty()) found.push_back(path);
  }
  return found.size() == 1 ? found[0] : "";
}
}  // namespace

std::string find_model(const Store& store, std::string_view model) {
  const fs::path path(model);
  std::error_code ignored;
  const bool is_folder = fs::is_directory(path, ignored);
  if (!is_folder && fs::exists(path, ignored)) return std::string(model);
  if (is_folder && fs::exists(path / "config.json", ignored)) return std::string(model);
  std::string gguf = is_folder ? lone_gguf(path) : "";
  if (!gguf.empty()) return gguf;
  if (store.find(model) || (find_in_catalogue(model) != nullptr && !is_folder)) return store.resolve(model);
  if (is_folder) return std::string(model);  // the loader says what it lacks
  if (model.ends_with(".gguf") || model.starts_with("/") || model.starts_with("./") || model.starts_with("../")) {
    fail(ErrorKind::kNotFound, "there is no file or folder {}", model);
  }
  return store.resolve(model);
}

}  // namespace baize::store
