// The program's version. Any thread.
#pragma once

namespace baize::apps {

extern const char* const kVersion;  // "0.1.0"

}  // namespace baize::apps
