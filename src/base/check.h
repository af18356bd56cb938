// CHECK: states what must hold unless Baize itself has a bug. It must be unreachable by any input; input errors
// are baize::Error (base/error.h). A failed check prints the place and aborts. Any thread.
#pragma once

namespace baize {

[[noreturn]] void check_failed(const char* file, int line, const char* what);

}  // namespace baize

#define BAIZE_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::baize::check_failed(__FILE__, __LINE__, #condition))
#define BAIZE_UNREACHABLE(message) ::baize::check_failed(__FILE__, __LINE__, message)

#ifdef NDEBUG
#define BAIZE_DCHECK(condition) static_cast<void>(false && (condition))
#else
#define BAIZE_DCHECK(condition) BAIZE_CHECK(condition)
#endif
