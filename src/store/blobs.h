// Blobs: the store's file contents, each named by its SHA-256, and the unfinished ones ("partials") on the way there.
// A blob that stands under its final name is complete. Any thread and process; one Partial belongs to one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "store/digest.h"
#include "store/files.h"
#include "store/progress.h"

namespace baize::store {

/// Where everything lies below the store's root.
struct Layout {
  fs::path root;
  fs::path blobs() const { return root / "blobs"; }
  fs::path manifests() const { return root / "manifests"; }
  fs::path models() const { return root / "models"; }
  fs::path locks() const { return root / "locks"; }
  fs::path temporary() const { return root / "tmp"; }
  fs::path blob(std::string_view sha256) const { return blobs() / ("sha256-" + std::string(sha256)); }

  /// Creates the folders.
  void create() const;
};

struct Blob {
  std::string sha256;
  int64_t bytes = 0;
};

/// True when the blob is there with this size. The content is not read again.
bool has_blob(const Layout& layout, std::string_view sha256, int64_t bytes);

/// An unfinished blob on disk, growing at its end, its digest kept up to date. `key` names it: "sha256-<hex>" when the
/// digest is known beforehand, else something derived from the address. The caller holds the key's lock.
class Partial {
 public:
  /// Opens or creates blobs/<key>.partial. `keep` bytes of what is there are kept and hashed (which reads them);
  /// the rest is cut off. Throws Error(kIo, kResource, kCancelled).
  Partial(const Layout& layout, const std::string& key, int64_t keep, Progress& progress);

  /// Bytes that are there.
  int64_t size() const { return size_; }
  const fs::path& path() const { return path_; }

  void append(std::span<const char> bytes);

  /// Drops all bytes.
  void restart();

  /// Makes what was appended survive a power cut.
  void sync();

  /// Removes the partial and its note. Nothing but destruction may follow.
  void discard();

  /// Digest of the bytes there; no append may follow.
  std::string digest();

  /// Makes the partial the blob `sha256` (its own digest), durably.
  Blob finish(std::string_view sha256);

  /// The first bytes of the content, at most 64.
  std::string_view beginning() const { return beginning_; }

 private:
  void remember_beginning(std::span<const char> bytes);

  const Layout& layout_;
  fs::path path_;
  fs::path note_;
  Fd fd_;
  int64_t size_ = 0;
  Sha256 digest_;
  std::string beginning_;
};

/// Size of blobs/<key>.partial, 0 when there is none.
int64_t partial_size(const Layout& layout, const std::string& key);

/// What is known of a partial whose digest is not: which version of the file it is the beginning of.
struct PartialNote {
  std::string url;
  std::string validator;  // strong ETag or Last-Modified, for If-Range
  int64_t synced = 0;     // bytes known to be safely on disk
};

/// The note beside a partial; nullopt when there is none or it cannot be read.
std::optional<PartialNote> read_note(const Layout& layout, const std::string& key);
void write_note(const Layout& layout, const std::string& key, const PartialNote& note);

/// The lock that whoever works on the partial `key` holds; waits for other processes, saying so.
FileLock lock_partial(const Layout& layout, const std::string& key, std::string_view file, Progress& progress);

/// Brings a file of this machine into the store: by reflink or hard link where the disk can, else by copying.
/// Reads the file once, for its digest, which must be `expected` unless that is empty.
/// Throws Error(kInvalidArgument: another digest, kNotFound, kIo, kResource, kCancelled).
Blob adopt_file(const Layout& layout, const fs::path& file, std::string_view expected, Progress& progress);

}  // namespace baize::store
