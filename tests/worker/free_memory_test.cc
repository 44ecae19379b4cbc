// The files of the system as they stand on machines of several kinds.
#include "worker/free_memory.h"

#include <gtest/gtest.h>

#include <climits>
#include <filesystem>
#include <fstream>
#include <limits>

#include "worker/cpu_quota.h"

namespace svfleet {
namespace {

class FreeMemory : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove_all(root_); }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + name).parent_path());
    std::ofstream(root_ + name) << text;
  }
  int64_t read() const { return free_memory(root_ + "/proc", root_ + "/cg"); }
  std::string root_ = ::testing::TempDir() + "svfleet_free_memory_test";
};

constexpr char kMeminfo[] = "MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  800 kB\n";

TEST_F(FreeMemory, OfTheSystemAlone) {
  EXPECT_EQ(read(), std::numeric_limits<int64_t>::max());
  write("/proc/meminfo", kMeminfo);
  EXPECT_EQ(read(), 800 * 1024);
  write("/proc/self/cgroup", "0::/no/such/group\n");
  EXPECT_EQ(read(), 800 * 1024);
}

TEST_F(FreeMemory, TheStrictestGroupOfVersion2) {
  write("/proc/meminfo", kMeminfo);
  write("/proc/self/cgroup", "0::/slurm/job_1/step\n");
  write("/cg/slurm/job_1/step/memory.max", "max\n");
  write("/cg/slurm/job_1/step/memory.current", "5\n");
  write("/cg/slurm/job_1/memory.max", "5000\n");
  write("/cg/slurm/job_1/memory.current", "4000\n");
  EXPECT_EQ(read(), 1000);
  // Cached files go when they are in the way.
  write("/cg/slurm/job_1/memory.stat", "anon 1000\ninactive_file 2500\nactive_file 500\n");
  EXPECT_EQ(read(), 3500);
  write("/cg/slurm/memory.max", "900\n");
  write("/cg/slurm/memory.current", "1000\n");
  EXPECT_EQ(read(), 0);
}

TEST_F(FreeMemory, Version1) {
  write("/proc/self/cgroup", "5:cpu,cpuacct:/other\n4:memory:/job\n");
  write("/cg/memory/job/memory.limit_in_bytes", "3000\n");
  write("/cg/memory/job/memory.usage_in_bytes", "1000\n");
  write("/cg/memory/memory.limit_in_bytes", "9223372036854771712\n");  // none
  write("/cg/memory/memory.usage_in_bytes", "1000\n");
  EXPECT_EQ(read(), 2000);
}

TEST_F(FreeMemory, CoresThatAContainerLeaves) {
  const auto cores = [&] { return cpu_quota(root_ + "/proc", root_ + "/cg"); };
  EXPECT_EQ(cores(), INT_MAX);
  write("/proc/self/cgroup", "0::/slurm/job\n");
  write("/cg/slurm/job/cpu.max", "max 100000\n");
  EXPECT_EQ(cores(), INT_MAX);
  write("/cg/slurm/cpu.max", "350000 100000\n");
  EXPECT_EQ(cores(), 3);
  write("/cg/cpu.max", "50000 100000\n");  // of a container's own root
  EXPECT_EQ(cores(), 1);
  write("/proc/self/cgroup", "4:memory:/job\n3:cpu,cpuacct:/docker/abc\n");
  EXPECT_EQ(cores(), INT_MAX);
  write("/cg/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  write("/cg/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cores(), INT_MAX);
  write("/cg/cpu,cpuacct/cpu.cfs_quota_us", "200000\n");
  EXPECT_EQ(cores(), 2);
}

TEST_F(FreeMemory, HereSomethingIsKnown) {
  EXPECT_GT(free_memory(), 1 << 20);
  EXPECT_LT(free_memory(), int64_t{1} << 50);
}

}  // namespace
}  // namespace svfleet
