#include "store/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "base/text.h"

namespace baize::store {

void Fd::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void fail_on(int error_number, std::string_view doing, const fs::path& path) {
  if (error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG) {
    const char* why = error_number == ENOSPC   ? "the disk is full"
                      : error_number == EDQUOT ? "the disk quota is used up"
                                               : "the file size limit (ulimit -f) is reached";
    fail(ErrorKind::kResource,
         "cannot {} {}: {}; free some space or move the store with BAIZE_HOME, then run the same command again", doing,
         path.string(), why);
  }
  fail(error_number == ENOENT ? ErrorKind::kNotFound : ErrorKind::kIo, "cannot {} {}: {}", doing, path.string(),
       strerror(error_number));
}

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail_on(error.value(), "create the folder", path);
}

Fd open_file(const fs::path& path, int flags, unsigned mode) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) fail_on(errno, (flags & O_CREAT) ? "create" : "open", path);
  return Fd(fd);
}

void write_all(int fd, std::span<const char> bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_on(errno, "write", path);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void sync_file(int fd, const fs::path& path) {
  if (::fsync(fd) != 0) fail_on(errno, "write", path);
}

void sync_folder(const fs::path& path) {
  const Fd folder = open_file(path, O_RDONLY | O_DIRECTORY);
  if (::fsync(folder.get()) != 0 && errno != EINVAL) fail_on(errno, "write", path);  // EINVAL: a file system without it
}

fs::path unique_path(const fs::path& folder, std::string_view stem) {
  static std::atomic<int> counter{0};
  const auto ticks = std::chrono::system_clock::now().time_since_epoch().count();
  return folder / fmt::format("{}-{}-{}-{}", stem, ::getpid(), ticks, counter++);
}

void write_atomically(const fs::path& path, std::string_view text, const fs::path& temporary) {
  const fs::path unfinished = unique_path(temporary, "write");
  try {
    const Fd fd = open_file(unfinished, O_WRONLY | O_CREAT | O_EXCL);
    write_all(fd.get(), text, unfinished);
    sync_file(fd.get(), unfinished);
    if (::rename(unfinished.c_str(), path.c_str()) != 0) fail_on(errno, "write", path);
  } catch (...) {
    ::unlink(unfinished.c_str());
    throw;
  }
  sync_folder(path.parent_path());
}

std::optional<int64_t> size_of_file(const fs::path& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  return static_cast<int64_t>(info.st_size);
}

void require_free_space(const fs::path& folder, int64_t bytes, std::string_view what) {
  struct statvfs info;
  if (bytes <= 0 || ::statvfs(folder.c_str(), &info) != 0) return;
  const auto available = static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize);
  if (available >= static_cast<double>(bytes)) return;
  fail(ErrorKind::kResource,
       "{} needs {} more, but the disk of {} has {} free; free some space or move the store with BAIZE_HOME, then run "
       "the same command again",
       what, human_bytes(bytes), folder.string(), human_bytes(static_cast<int64_t>(available)));
}

void remove_all_quietly(const fs::path& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

std::string one_line(std::string_view text, size_t limit) {
  constexpr const char* kSpace = " \t\r\n";
  const size_t first = std::min(text.find_first_not_of(kSpace), text.size());
  text.remove_prefix(first);
  std::string line(text.substr(0, std::min(limit, text.find_last_not_of(kSpace) + 1)));
  std::replace_if(line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return line;
}

std::string env(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::optional<FileLock> FileLock::try_take(const fs::path& path, Mode mode) {
  Fd fd = open_file(path, O_RDWR | O_CREAT);
  if (::flock(fd.get(), (mode == Mode::kShared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0) return FileLock(std::move(fd));
  if (errno == EWOULDBLOCK || errno == EINTR) return std::nullopt;
  fail_on(errno, "lock", path);
}

FileLock FileLock::take(const fs::path& path, Mode mode, const std::function<void()>& keep_waiting) {
  for (;;) {
    if (auto lock = try_take(path, mode)) return std::move(*lock);
    if (keep_waiting) keep_waiting();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

void FileLock::downgrade() { ::flock(fd_.get(), LOCK_SH); }

}  // namespace baize::store
