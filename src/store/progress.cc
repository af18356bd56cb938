#include "store/progress.h"

#include "base/error.h"

namespace baize::store {

void Progress::begin(std::string_view, int64_t, int, int) {}
void Progress::update(int64_t, int64_t) {}
void Progress::end() {}
void Progress::note(std::string_view) {}
bool Progress::cancelled() { return false; }

void stop_if_cancelled(Progress& progress) {
  if (progress.cancelled()) {
    fail(ErrorKind::kCancelled, "stopped; run the same command again to go on from here");
  }
}

}  // namespace baize::store
