// map_bytes: fuzzer input as a MappedFile, through an anonymous file of the kernel instead of the disk. One thread.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/check.h"
#include "tensor/mapped_file.h"

namespace baize::test {

/// Valid until the next call: all inputs share one file.
inline std::shared_ptr<const MappedFile> map_bytes(const uint8_t* data, size_t size) {
  static const int fd = memfd_create("fuzz", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(fd);
  BAIZE_CHECK(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == static_cast<ssize_t>(size));
  return MappedFile::open(path);
}

}  // namespace baize::test
