#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace baize {

void check_failed(const char* file, int line, const char* what) {
  std::fprintf(stderr, "baize: internal error at %s:%d: %s\nThis is a bug in Baize; please report it.\n", file, line,
               what);
  std::abort();
}

}  // namespace baize
