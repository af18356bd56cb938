// Files of the store: descriptors, lock files, atomic writes, free space, and what a failed write says. Lock files work
// between processes and are released by the kernel when a process dies. Any thread; one object belongs to one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace baize::store {

namespace fs = std::filesystem;

/// Owner of one file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { close(); }
  int get() const { return fd_; }
  void close();

 private:
  int fd_ = -1;
};

/// An flock on a lock file that is created when missing. Held until destruction or the end of the process.
class FileLock {
 public:
  enum class Mode { kShared, kExclusive };

  /// Takes the lock, or nullopt when another process holds it. Throws Error(kIo).
  static std::optional<FileLock> try_take(const fs::path& path, Mode mode);

  /// Waits for the lock, asking `keep_waiting` (which may throw) about five times a second.
  static FileLock take(const fs::path& path, Mode mode, const std::function<void()>& keep_waiting = {});

  /// Exclusive becomes shared (another process may slip in between; nobody may rely on that instant).
  void downgrade();

 private:
  explicit FileLock(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

/// Throws the Error for a failed system call on `path`: kResource with what to do about a full disk, else kIo.
[[noreturn]] void fail_on(int error_number, std::string_view doing, const fs::path& path);

/// Creates a folder and its parents. Throws Error(kIo or kResource).
void make_folder(const fs::path& path);

/// Opens or throws Error(kNotFound, kIo or kResource). Descriptors close on exec.
Fd open_file(const fs::path& path, int flags, unsigned mode = 0644);

/// Writes all of it or throws the Error of fail_on.
void write_all(int fd, std::span<const char> bytes, const fs::path& path);

/// Makes the content of a file or the entries of a folder survive a power cut.
void sync_file(int fd, const fs::path& path);
void sync_folder(const fs::path& path);

/// Puts `text` under `path` at once or not at all; the unfinished file lives in `temporary`, a folder of the same disk.
void write_atomically(const fs::path& path, std::string_view text, const fs::path& temporary);

/// A name in `folder` that no other process or call uses.
fs::path unique_path(const fs::path& folder, std::string_view stem);

/// Size of a regular file (links followed), or nullopt when there is none.
std::optional<int64_t> size_of_file(const fs::path& path);

/// Throws Error(kResource) when the disk of `folder` has less than `bytes` free.
void require_free_space(const fs::path& folder, int64_t bytes, std::string_view what);

/// Removes a file or folder with all it holds; missing ones are fine.
void remove_all_quietly(const fs::path& path);

/// Text of strangers as one line for a message: control characters become '?', ends are trimmed, at most `limit` bytes.
std::string one_line(std::string_view text, size_t limit = 200);

/// Value of an environment variable, or empty.
std::string env(const char* name);

}  // namespace baize::store
