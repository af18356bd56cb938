#include "tensor/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/text.h"

namespace baize {

Buffer Buffer::host(int64_t bytes) {
  constexpr int64_t kHugePage = int64_t{2} << 20;
  const auto length = static_cast<size_t>(std::max<int64_t>(bytes, 1));
  void* data = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    fail(ErrorKind::kResource, "cannot allocate {} of memory: {}", human_bytes(bytes), strerror(errno));
  }
  if (bytes >= kHugePage) madvise(data, length, MADV_HUGEPAGE);
  return Buffer(data, bytes, Place{}, [length](void* p) { munmap(p, length); });
}

}  // namespace baize
