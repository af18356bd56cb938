// How much memory this process may use (the machine's, or less where a control group limits it) and does use. Any
// thread.
#pragma once

#include <cstdint>
#include <string>

namespace baize {

struct HostMemory {
  int64_t total = 0;      // bytes
  int64_t available = 0;  // bytes that can be had now without swapping; file cache counts as available
};

/// Reads /proc/meminfo and the limits of the process's control groups (v1 or v2, its own and those above it); what is
/// missing there limits nothing. `root` is the folder that stands for "/".
HostMemory host_memory(const std::string& root = "");

/// Bytes of memory that this process holds now, mapped files included; 0 where that is not told.
int64_t resident_memory();

}  // namespace baize
