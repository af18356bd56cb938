// The memory a process may use, read from made-up /proc and control group files.
#include "base/host_memory.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

namespace baize {
namespace {

namespace fs = std::filesystem;

class HostMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / ("host_memory_" + std::to_string(getpid()));
    write("proc/meminfo", "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  600 kB\n");
  }
  void TearDown() override { fs::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  HostMemory read() const { return host_memory(root_.string()); }
  fs::path root_;
};

TEST_F(HostMemoryTest, WithoutGroupsIsTheMachines) {
  EXPECT_EQ(read().total, 1000 * 1024);
  EXPECT_EQ(read().available, 600 * 1024);
}

TEST_F(HostMemoryTest, Version2TakesTheTightestGroupAbove) {
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  write("sys/fs/cgroup/a/memory.max", "512000\n");
  write("sys/fs/cgroup/a/memory.current", "412000\n");
  write("sys/fs/cgroup/a/memory.stat", "anon 12000\ninactive_file 400000\n");
  EXPECT_EQ(read().total, 512000);
  EXPECT_EQ(read().available, 500000);
}

TEST_F(HostMemoryTest, Version2AtItsRoot) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "300000\n");
  write("sys/fs/cgroup/memory.current", "400000\n");
  EXPECT_EQ(read().total, 300000);
  EXPECT_EQ(read().available, 0);
}

TEST_F(HostMemoryTest, Version1) {
  write("proc/self/cgroup", "9:cpu:/x\n4:memory:/jobs/7\n0::/\n");
  write("sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes", "200000\n");
  write("sys/fs/cgroup/memory/jobs/7/memory.usage_in_bytes", "50000\n");
  write("sys/fs/cgroup/memory/jobs/7/memory.stat", "inactive_file 1\ntotal_inactive_file 10000\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(read().total, 200000);
  EXPECT_EQ(read().available, 160000);
}

TEST(HostMemory, OfThisMachineIsPlausible) {
  const HostMemory memory = host_memory();
  EXPECT_GT(memory.total, int64_t{16} << 20);
  EXPECT_GT(memory.available, 0);
  EXPECT_LE(memory.available, memory.total);
}

TEST(HostMemory, ResidentMemoryGrowsWithWhatIsTouched) {
  const int64_t before = resident_memory();
  EXPECT_GT(before, 0);
  const std::vector<char> touched(size_t{64} << 20, 1);
  EXPECT_GE(resident_memory() - before, int64_t{60} << 20) << touched.size();
}

}  // namespace
}  // namespace baize
