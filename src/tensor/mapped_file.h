// MappedFile: a whole file mapped read-only. Shared by every tensor view into it through shared_ptr. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace baize {

class MappedFile {
 public:
  /// Throws Error(kNotFound, kIo) naming the path; an empty file maps to an empty span.
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  const std::string& path() const { return path_; }

  /// Drops the resident pages that lie wholly inside `range`: a later read fetches them again. For weights that have
  /// been copied into another layout, so that both are never resident. A range outside of bytes() is left alone.
  void drop_pages(std::span<const std::byte> range) const;
  /// Asks the system to read `range` ahead.
  void will_need(std::span<const std::byte> range) const;

 private:
  MappedFile(std::string path, void* data, size_t size) : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  void* data_;
  size_t size_;
};

}  // namespace baize
