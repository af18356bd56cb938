#include "base/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

namespace baize {

namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// The number a file begins with; `otherwise` when there is no such file or it says "max".
int64_t read_number(const std::string& path, int64_t otherwise) {
  std::ifstream in(path);
  int64_t value = 0;
  return in >> value ? value : otherwise;
}

// The number after `key` in a file of "key value" lines; 0 when there is none.
int64_t read_field(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  std::string name;
  int64_t value = 0;
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    if (fields >> name >> value && name == key) return value;
  }
  return 0;
}

struct GroupFiles {
  const char* limit;
  const char* usage;
  const char* inactive;  // key in memory.stat: file cache that goes away under pressure
};
constexpr GroupFiles kVersion2 = {"/memory.max", "/memory.current", "inactive_file"};
constexpr GroupFiles kVersion1 = {"/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file"};

// Lowers `memory` to the limits of the group `path` below `mount` and of every group above it.
void apply_limits(const std::string& mount, std::string path, const GroupFiles& files, HostMemory& memory) {
  for (;;) {
    const std::string group = mount + path;
    const int64_t limit = read_number(group + files.limit, kUnlimited);
    if (limit < memory.total) memory.total = limit;
    if (limit != kUnlimited) {
      const int64_t cache = read_field(group + "/memory.stat", files.inactive);
      const int64_t used = std::max<int64_t>(0, read_number(group + files.usage, 0) - cache);
      memory.available = std::min(memory.available, std::max<int64_t>(0, limit - used));
    }
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return;
    path.resize(slash);
  }
}

}  // namespace

HostMemory host_memory(const std::string& root) {
  constexpr int64_t kKilo = 1024;
  const std::string meminfo = root + "/proc/meminfo";
  HostMemory memory{read_field(meminfo, "MemTotal:") * kKilo, read_field(meminfo, "MemAvailable:") * kKilo};
  std::ifstream groups(root + "/proc/self/cgroup");  // lines "id:controllers:path"; version 2 has id 0, no controllers
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers == ",,") apply_limits(root + "/sys/fs/cgroup", path, kVersion2, memory);
    if (controllers.find(",memory,") != std::string::npos) {
      apply_limits(root + "/sys/fs/cgroup/memory", path, kVersion1, memory);
    }
  }
  return memory;
}

int64_t resident_memory() {
  std::ifstream in("/proc/self/statm");  // in pages: all, resident, ...
  int64_t all = 0, resident = 0;
  return in >> all >> resident ? resident * ::sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace baize
