#include "apps/version.h"

namespace baize {

const char* const kVersion = BAIZE_VERSION;  // from CMakeLists.txt

}  // namespace baize
