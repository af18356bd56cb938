#include "store/blobs.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"

namespace baize::store {

namespace {
constexpr size_t kReadBytes = size_t{1} << 20;
constexpr size_t kBeginning = 64;

fs::path partial_path(const Layout& layout, const std::string& key) { return layout.blobs() / (key + ".partial"); }
fs::path note_path(const Layout& layout, const std::string& key) { return layout.blobs() / (key + ".partial.json"); }

// Reads `fd` from its position to its end, at most `limit` bytes, in pieces. Returns the bytes read.
template <typename Use>
int64_t read_pieces(int fd, const fs::path& path, int64_t limit, Progress& progress, Use use) {
  std::vector<char> buffer(kReadBytes);
  int64_t total = 0;
  while (total < limit) {
    stop_if_cancelled(progress);
    const size_t want = static_cast<size_t>(std::min<int64_t>(limit - total, kReadBytes));
    const ssize_t got = ::read(fd, buffer.data(), want);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_on(errno, "read", path);
    if (got == 0) break;
    use(std::span<const char>(buffer.data(), static_cast<size_t>(got)));
    total += got;
  }
  return total;
}
}  // namespace

void Layout::create() const {
  for (const fs::path& folder : {blobs(), manifests(), models(), locks(), temporary()}) make_folder(folder);
}

bool has_blob(const Layout& layout, std::string_view sha256, int64_t bytes) {
  return size_of_file(layout.blob(sha256)) == bytes;
}

Partial::Partial(const Layout& layout, const std::string& key, int64_t keep, Progress& progress)
    : layout_(layout), path_(partial_path(layout, key)), note_(note_path(layout, key)) {
  fd_ = open_file(path_, O_RDWR | O_CREAT | O_NOFOLLOW);
  size_ = read_pieces(fd_.get(), path_, keep, progress, [&](std::span<const char> bytes) {
    digest_.update(bytes);
    remember_beginning(bytes);
  });
  if (::ftruncate(fd_.get(), size_) != 0) fail_on(errno, "write", path_);
}

void Partial::remember_beginning(std::span<const char> bytes) {
  if (beginning_.size() >= kBeginning) return;
  beginning_.append(bytes.data(), std::min(bytes.size(), kBeginning - beginning_.size()));
}

void Partial::append(std::span<const char> bytes) {
  write_all(fd_.get(), bytes, path_);
  digest_.update(bytes);
  remember_beginning(bytes);
  size_ += static_cast<int64_t>(bytes.size());
}

void Partial::restart() {
  if (::ftruncate(fd_.get(), 0) != 0 || ::lseek(fd_.get(), 0, SEEK_SET) != 0) fail_on(errno, "write", path_);
  size_ = 0;
  digest_.reset();
  beginning_.clear();
}

void Partial::sync() { sync_file(fd_.get(), path_); }

void Partial::discard() {
  ::unlink(path_.c_str());
  ::unlink(note_.c_str());
}

std::string Partial::digest() { return digest_.hex(); }

Blob Partial::finish(std::string_view sha256) {
  sync();
  ::fchmod(fd_.get(), 0444);  // a blob never changes; models are read through links to it
  const fs::path final_path = layout_.blob(sha256);
  if (::rename(path_.c_str(), final_path.c_str()) != 0) fail_on(errno, "write", final_path);
  ::unlink(note_.c_str());
  sync_folder(layout_.blobs());
  return {.sha256 = std::string(sha256), .bytes = size_};
}

int64_t partial_size(const Layout& layout, const std::string& key) {
  return size_of_file(partial_path(layout, key)).value_or(0);
}

std::optional<PartialNote> read_note(const Layout& layout, const std::string& key) {
  try {
    const std::string path = note_path(layout, key).string();
    const Json json = parse_json(read_file(path), path);
    return PartialNote{.url = json.at("url").get<std::string>(),
                       .validator = json.at("validator").get<std::string>(),
                       .synced = std::max<int64_t>(0, json.at("synced").get<int64_t>())};
  } catch (const std::exception&) {
    return std::nullopt;  // no note: the partial starts over
  }
}

void write_note(const Layout& layout, const std::string& key, const PartialNote& note) {
  const Json json = {{"url", note.url}, {"validator", note.validator}, {"synced", note.synced}};
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  write_atomically(note_path(layout, key), text, layout.temporary());
}

FileLock lock_partial(const Layout& layout, const std::string& key, std::string_view file, Progress& progress) {
  bool said = false;
  return FileLock::take(layout.locks() / (key + ".lock"), FileLock::Mode::kExclusive, [&] {
    stop_if_cancelled(progress);
    if (!said) progress.note(fmt::format("{}: another process is fetching this file; waiting for it", file));
    said = true;
  });
}

namespace {
// Links or clones `source` to `target`; false when the disk can do neither.
bool link_or_clone(int source_fd, const fs::path& source, const fs::path& target) {
  {
    const Fd clone = open_file(target, O_WRONLY | O_CREAT | O_EXCL);
    if (::ioctl(clone.get(), FICLONE, source_fd) == 0) {  // shares the bytes until either file changes
      sync_file(clone.get(), target);
      return true;
    }
  }
  ::unlink(target.c_str());
  return ::link(source.c_str(), target.c_str()) == 0;
}

struct Version {
  int64_t bytes = 0, seconds = 0, nanoseconds = 0;
  friend bool operator==(const Version&, const Version&) = default;
};

Version version_of(int fd, const fs::path& path) {
  struct stat info;
  if (::fstat(fd, &info) != 0) fail_on(errno, "read", path);
  if (!S_ISREG(info.st_mode)) fail(ErrorKind::kInvalidArgument, "{} is not a regular file", path.string());
  return {.bytes = info.st_size, .seconds = info.st_mtim.tv_sec, .nanoseconds = info.st_mtim.tv_nsec};
}

// Puts a copy of `fd` under the name `target`.
void copy_to(const Layout& layout, int fd, const fs::path& path, const fs::path& target, Progress& progress) {
  require_free_space(layout.root, version_of(fd, path).bytes, path.filename().string());
  if (::lseek(fd, 0, SEEK_SET) != 0) fail_on(errno, "read", path);
  const Fd copy = open_file(target, O_WRONLY | O_CREAT | O_EXCL, 0444);
  read_pieces(fd, path, INT64_MAX, progress,
              [&](std::span<const char> bytes) { write_all(copy.get(), bytes, target); });
  sync_file(copy.get(), target);
}
}  // namespace

Blob adopt_file(const Layout& layout, const fs::path& file, std::string_view expected, Progress& progress) {
  std::error_code error;
  const fs::path source = fs::canonical(file, error);  // a link to a link would not keep the bytes
  if (error) fail_on(error.value(), "open", file);
  const Fd fd = open_file(source, O_RDONLY);
  const Version before = version_of(fd.get(), source);
  Sha256 digest;
  int64_t done = 0;
  read_pieces(fd.get(), source, INT64_MAX, progress, [&](std::span<const char> bytes) {
    digest.update(bytes);
    done += static_cast<int64_t>(bytes.size());
    progress.update(done, before.bytes);
  });
  const Blob blob{.sha256 = digest.hex(), .bytes = done};
  if (!expected.empty() && blob.sha256 != expected) {
    fail(ErrorKind::kInvalidArgument, "{} has the SHA-256 {} where {} was expected", file.string(), blob.sha256,
         expected);
  }
  if (has_blob(layout, blob.sha256, blob.bytes)) return blob;
  const fs::path unfinished = unique_path(layout.temporary(), "adopt");
  try {
    if (!link_or_clone(fd.get(), source, unfinished)) copy_to(layout, fd.get(), source, unfinished, progress);
    if (version_of(fd.get(), source) != before || size_of_file(unfinished) != blob.bytes) {
      fail(ErrorKind::kIo, "{} changed while it was read; try again when nothing writes to it", source.string());
    }
    if (::rename(unfinished.c_str(), layout.blob(blob.sha256).c_str()) != 0) fail_on(errno, "write", unfinished);
    ::unlink(unfinished.c_str());  // still there when both names were links to one file: rename does nothing then
  } catch (...) {
    ::unlink(unfinished.c_str());
    throw;
  }
  sync_folder(layout.blobs());
  return blob;
}

}  // namespace baize::store
