// Store::pull: from what the user typed to a published manifest.
#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "store/catalogue.h"
#include "store/hub.h"
#include "store/pypi.h"
#include "store/select.h"
#include "store/source.h"
#include "store/store.h"

namespace baize::store {

namespace {
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// An alias is meant unless a model lies in the current folder under that very name.
const CatalogueEntry* alias_for(const std::string& text) {
  std::error_code ignored;
  if (fs::is_regular_file(text, ignored) || is_there(fs::path(text) / "config.json")) return nullptr;
  return find_in_catalogue(text);
}

[[noreturn]] void fail_no_such_source(const std::string& text) {
  std::vector<std::string> names;
  for (const CatalogueEntry& entry : catalogue()) names.push_back(entry.name);
  fail(ErrorKind::kNotFound,
       "\"{}\" is neither a file or folder here nor a known model (the closest: {}); other sources are written "
       "hf:owner/repo[:file], ms:owner/repo[:file], pypi:PACKAGE==VERSION:FILE or https://...",
       text.substr(0, 300), fmt::join(closest_names(text, names), ", "));
}

std::vector<RemoteFile> list_folder(const fs::path& folder) {
  std::vector<RemoteFile> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const auto bytes = size_of_file(it->path());  // follows links, which hub caches are full of
    const std::string name = it->path().filename().string();
    if (bytes && is_safe_relative_path(name)) files.push_back({.path = name, .bytes = *bytes, .sha256 = ""});
  }
  if (error) fail_on(error.value(), "read the folder", folder);
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return files;
}

// `url` with the last part of its path replaced.
std::string sibling_url(const std::string& url, const std::string& file) {
  const size_t end = std::min(url.find_first_of("?#"), url.size());
  const size_t slash = url.rfind('/', end);
  return url.substr(0, slash + 1) + percent_encode(file, false) + url.substr(end);
}
}  // namespace

// One call of Store::pull.
class Pull {
 public:
  Pull(const Store& store, const PullRequest& request, Progress& progress)
      : store_(store),
        layout_(store.layout_),
        progress_(progress),
        http_(request.limits),
        context_{.layout = layout_, .http = http_, .progress = progress, .retry = request.retry, .reached = false} {
    const CatalogueEntry* entry = alias_for(request.source);
    manifest_.source = entry != nullptr ? entry->source : request.source;
    source_ = parse_source(manifest_.source);
    sha256_ = request.sha256;
    if (entry != nullptr) {
      bytes_ = entry->bytes;
      if (sha256_.empty()) sha256_ = entry->sha256;
    }
    manifest_.name = !request.name.empty() ? request.name : entry != nullptr ? entry->name : default_name(source_);
    check_name(manifest_.name);
    if (!sha256_.empty() && !is_sha256(sha256_)) {
      fail(ErrorKind::kInvalidArgument, "\"{}\" is not a SHA-256: 64 hex digits, lower case", sha256_.substr(0, 100));
    }
    if (auto* local = std::get_if<LocalSource>(&source_)) make_absolute(*local);
  }

  Manifest run() {
    layout_.create();
    const FileLock pulling = take_pull_lock();
    store_.check_name_is_free(manifest_);
    remember_previous();
    manifest_.files = std::visit([this](const auto& source) { return fetch(source); }, source_);
    manifest_.date = utc_now();
    if (is_unchanged()) return previous_;
    store_.publish(manifest_);
    return manifest_;
  }

 private:
  void make_absolute(LocalSource& local) {
    if (!is_there(local.path)) fail_no_such_source(local.path);
    local.path = absolute_path(local.path);
    manifest_.source = local.path;
  }

  // Shared while anything is being pulled. Whoever finds itself alone first clears what crashed pulls left in tmp/.
  FileLock take_pull_lock() {
    const fs::path path = layout_.locks() / "pulls.lock";
    if (auto alone = FileLock::try_take(path, FileLock::Mode::kExclusive)) {
      std::error_code ignored;
      for (const auto& entry : fs::directory_iterator(layout_.temporary(), ignored)) remove_all_quietly(entry.path());
      alone->downgrade();
      return std::move(*alone);
    }
    return FileLock::take(path, FileLock::Mode::kShared, [this] { stop_if_cancelled(progress_); });
  }

  void remember_previous() {
    const fs::path path = store_.manifest_path(manifest_.name);
    if (size_of_file(path)) previous_ = parse_manifest(read_file(path.string()), path.string());
    for (const ModelFile& file : previous_.files) {
      if (bytes_ < 0 && file.sha256 == sha256_) bytes_ = file.bytes;  // so that a damaged blob is noticed
    }
  }

  const ModelFile* previous(const std::string& path) const {
    for (const ModelFile& file : previous_.files) {
      if (file.path == path && has_blob(layout_, file.sha256, file.bytes)) return &file;
    }
    return nullptr;
  }

  bool is_unchanged() const {
    const auto same = [](const ModelFile& a, const ModelFile& b) {
      return a.path == b.path && a.sha256 == b.sha256 && a.bytes == b.bytes && a.etag == b.etag;
    };
    const auto& now = manifest_.files;
    const auto& then = previous_.files;
    return std::equal(now.begin(), now.end(), then.begin(), then.end(), same) && store_.links_fine(previous_);
  }

  void check_digest_fits(size_t files) const {
    if (!sha256_.empty() && files != 1) {
      fail(ErrorKind::kInvalidArgument, "a SHA-256 can be given for one file, but {} has {}", manifest_.source, files);
    }
  }

  std::vector<ModelFile> fetch(const LocalSource& source) {
    std::vector<fs::path> paths;
    std::error_code ignored;
    if (fs::is_directory(source.path, ignored)) {
      for (const RemoteFile& file : choose_files(list_folder(source.path), "", source.path)) {
        paths.push_back(fs::path(source.path) / file.path);
      }
    } else {
      for (const std::string& part : split_parts(source.path)) paths.emplace_back(part);
      if (paths.empty()) fail(ErrorKind::kInvalidArgument, "{} is a later part of a split model", source.path);
    }
    check_digest_fits(paths.size());
    std::vector<ModelFile> files;
    for (const fs::path& path : paths) files.push_back(adopt(path, static_cast<int>(files.size()) + 1, paths.size()));
    return files;
  }

  ModelFile adopt(const fs::path& path, int index, size_t count) {
    const std::string name = path.filename().string();
    const bool alone = count == 1;
    if (alone && !name.ends_with(".gguf")) {
      fail(ErrorKind::kUnsupported,
           "{} is not a .gguf file; give a GGUF file or a folder with config.json and safetensors", path.string());
    }
    progress_.begin(name, size_of_file(path).value_or(-1), index, static_cast<int>(count));
    const Blob blob = adopt_file(layout_, path, sha256_, progress_);
    progress_.end();
    return {.path = name, .sha256 = blob.sha256, .bytes = blob.bytes, .etag = ""};
  }

  std::vector<ModelFile> fetch(const UrlSource& source) {
    const std::vector<std::string> parts = split_parts(source.file);
    if (parts.empty()) {
      fail(ErrorKind::kInvalidArgument, "{} is a later part of a split model; give the address of part 00001",
           source.file);
    }
    check_digest_fits(parts.size());
    std::vector<ModelFile> files;
    for (const std::string& part : parts) {
      FetchJob job{.file = part, .request = {}, .sha256 = sha256_, .bytes = bytes_, .previous = previous(part)};
      job.request.url = parts.size() == 1 ? source.url : sibling_url(source.url, part);
      job.request.plain_http_allowed = !sha256_.empty();  // otherwise anyone on the way could change the file
      job.index = static_cast<int>(files.size()) + 1;
      job.count = static_cast<int>(parts.size());
      files.push_back(fetch_file(context_, job));
    }
    return files;
  }

  std::vector<ModelFile> fetch(const HubSource& source) {
    const HubListing listing = list_repository(context_, source);
    std::vector<RemoteFile> chosen = choose_files(listing.files, source.file, source.repo);
    check_digest_fits(sha256_.empty() ? 1 : chosen.size());
    require_space_for(chosen);
    std::vector<ModelFile> files;
    for (const RemoteFile& file : chosen) {
      FetchJob job{.file = file.path,
                   .request = file_request(source, listing.revision, file.path),
                   .sha256 = sha256_.empty() ? file.sha256 : sha256_,
                   .bytes = file.bytes,
                   .previous = previous(file.path)};
      job.index = static_cast<int>(files.size()) + 1;
      job.count = static_cast<int>(chosen.size());
      files.push_back(fetch_file(context_, job));
    }
    return files;
  }

  // Says at once, not after hours, that a model of many files will not fit.
  void require_space_for(const std::vector<RemoteFile>& files) const {
    int64_t missing = 0;
    for (const RemoteFile& file : files) {
      const bool present = !file.sha256.empty() && has_blob(layout_, file.sha256, file.bytes);
      if (!present) missing += std::max<int64_t>(0, file.bytes - partial_size(layout_, "sha256-" + file.sha256));
    }
    require_free_space(layout_.root, missing, manifest_.name);
  }

  std::vector<ModelFile> fetch(const PypiSource& source) {
    const std::string file = fs::path(source.file).filename().string();
    return {fetch_from_pypi(context_, {.source = source, .file = file, .sha256 = sha256_, .bytes = bytes_})};
  }

  const Store& store_;
  const Layout& layout_;
  Progress& progress_;
  HttpClient http_;
  FetchContext context_;
  Manifest manifest_;
  Manifest previous_;
  Source source_;
  std::string sha256_;
  int64_t bytes_ = -1;
};

Manifest Store::pull(const PullRequest& request, Progress& progress) const {
  return Pull(*this, request, progress).run();
}

}  // namespace baize::store
