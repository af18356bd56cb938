#include "base/error.h"

#include "base/check.h"

namespace baize {

namespace {
struct KindRow {
  ErrorKind kind;
  const char* name;
  int code;
};
constexpr KindRow kKinds[] = {
    {ErrorKind::kInvalidArgument, "invalid_argument", 2},
    {ErrorKind::kNotFound, "not_found", 3},
    {ErrorKind::kCorrupt, "corrupt", 4},
    {ErrorKind::kUnsupported, "unsupported", 5},
    {ErrorKind::kResource, "resource", 6},
    {ErrorKind::kIo, "io", 7},
    {ErrorKind::kNetwork, "network", 8},
    {ErrorKind::kBusy, "busy", 9},
    {ErrorKind::kCancelled, "cancelled", 130},
};

const KindRow& row(ErrorKind kind) {
  for (const KindRow& r : kKinds) {
    if (r.kind == kind) return r;
  }
  BAIZE_UNREACHABLE("unknown ErrorKind");
}
}  // namespace

const char* to_string(ErrorKind kind) { return row(kind).name; }
int exit_code(ErrorKind kind) { return row(kind).code; }

}  // namespace baize
