#include "apps/version.h"

namespace baize::apps {

const char* const kVersion = BAIZE_VERSION;  // from CMakeLists.txt

}  // namespace baize::apps
