// The parts of a submission that ask nobody: limits, partitions, deadlines.
#include <gmock/gmock.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cluster/allocation_end.h"
#include "cluster/job_script.h"
#include "cluster/partition.h"
#include "comm/error.h"
#include "tests/cluster/scratch.h"

namespace svfleet {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(TimeLimit, AllOfSlurmsForms) {
  EXPECT_EQ(time_limit_s("90"), 90 * 60);
  EXPECT_EQ(time_limit_s("90:30"), 90 * 60 + 30);
  EXPECT_EQ(time_limit_s("8:00:00"), 8 * 3600);
  EXPECT_EQ(time_limit_s("1-2"), 26 * 3600);
  EXPECT_EQ(time_limit_s("1-2:30"), 26 * 3600 + 30 * 60);
  EXPECT_EQ(time_limit_s("1-00:00:05"), 86405);
  for (const char* wrong : {"", "0", "8h", "1:2:3:4", "-5", "1-", "1:", ":", "UNLIMITED",
                            "1-2:3:4:5", "8:00:00 --wrap=x"})
    EXPECT_EQ(time_limit_s(wrong), std::nullopt) << wrong;
}

TEST(MemorySize, AllOfSlurmsForms) {
  EXPECT_EQ(memory_mib("1500"), 1500);
  EXPECT_EQ(memory_mib("1500M"), 1500);
  EXPECT_EQ(memory_mib("4G"), 4096);
  EXPECT_EQ(memory_mib("4g"), 4096);
  EXPECT_EQ(memory_mib("1T"), 1048576);
  EXPECT_EQ(memory_mib("2048K"), 2);
  EXPECT_EQ(memory_mib("0"), 0);  // all of a node's
  for (const char* wrong : {"", "00", "0G", "G", "4GB", "x", "-4G", "4 G"})
    EXPECT_EQ(memory_mib(wrong), std::nullopt) << wrong;
}

constexpr char kPartitions[] =
    "PartitionName=low AllowGroups=ALL Default=YES MaxNodes=UNLIMITED MaxTime=1-00:00:00 "
    "MinNodes=0 "
    "MaxCPUsPerNode=UNLIMITED Nodes=n[1-4] State=UP TotalCPUs=8 TotalNodes=4\n"
    "PartitionName=big Default=NO MaxNodes=2 MaxTime=UNLIMITED MinNodes=2 MaxCPUsPerNode=8 "
    "Nodes=b[1-3] State=UP TotalCPUs=48 TotalNodes=3\n"
    "PartitionName=old Default=NO MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 State=DOWN "
    "TotalNodes=9\n";
constexpr char kNodes[] =
    "low|3|2|1000|(null)\nlow|1|2|4000|gpu:a100:4(S:0-1)\nbig|3|16|64000+|gpu:2\nold|9|4|1000|\n";

// The line of the refusal, or "".
std::string refusal(const JobRequest& request) {
  try {
    check_against(request, parse_partitions(kPartitions, kNodes));
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_THAT(error.what(), Not(HasSubstr("\n")));
    return error.what();
  }
}

TEST(Partitions, RefuseWhatCanNeverStart) {
  EXPECT_EQ(refusal({}), "");
  EXPECT_EQ(refusal({.nodes = 4, .cpus_per_task = 2, .time = "24:00:00"}), "");
  EXPECT_EQ(refusal({.nodes = 2, .ranks_per_node = 2, .cpus_per_task = 4, .partition = "big"}), "");
  EXPECT_EQ(refusal({.gres = "gpu:4", .memory = "4000"}), "");
  EXPECT_EQ(refusal({.nodes = 2, .partition = "big", .gres = "gpu:2", .memory = "62G"}), "");
  EXPECT_EQ(refusal({.nodes = 4, .memory = "0"}), "");
  EXPECT_THAT(refusal({.partition = "lwo"}), HasSubstr("does not exist here; there are: low, big"));
  EXPECT_THAT(refusal({.partition = "low,nope"}), HasSubstr("'nope' does not exist"));
  EXPECT_THAT(refusal({.partition = "old"}), HasSubstr("is DOWN"));
  EXPECT_THAT(refusal({.nodes = 5}), HasSubstr("has 4 nodes, --nodes asks for 5"));
  EXPECT_THAT(refusal({.nodes = 3, .partition = "big"}), HasSubstr("allows 2 nodes a job"));
  EXPECT_THAT(refusal({.nodes = 1, .partition = "big"}), HasSubstr("at least 2 nodes"));
  EXPECT_THAT(refusal({.time = "1-00:01"}), HasSubstr("allows 1 days, --time asks for 1441 min"));
  EXPECT_THAT(refusal({.ranks_per_node = 2, .cpus_per_task = 2}), HasSubstr("0 nodes with the 4"));
  EXPECT_THAT(refusal({.nodes = 2, .cpus_per_task = 16, .partition = "big"}),
              HasSubstr("allows 8 cores a node"));
  EXPECT_THAT(refusal({.nodes = 2, .memory = "2G"}), HasSubstr("1 nodes with 2048 MiB"));
  EXPECT_THAT(refusal({.gres = "gpu:5"}), HasSubstr("0 nodes with --gres gpu:5"));
  EXPECT_THAT(refusal({.gres = "gpu:h100:1"}), HasSubstr("0 nodes with --gres"));
  EXPECT_THAT(refusal({.nodes = 2, .gres = "gpu:1"}), HasSubstr("1 nodes with --gres"));
}

TEST(NodeLocal, ByMountAndByName) {
  const std::string mounts =
      "overlay / overlay rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\ntmpfs /fast\\040disk tmpfs rw 0 0\n"
      "server:/x /home nfs4 rw 0 0\nserver:/y /tmp/shared nfs rw 0 0\ntmpfs /home/mem tmpfs rw 0 "
      "0\n";
  EXPECT_EQ(node_local("/home/u/run", mounts), "");
  EXPECT_EQ(node_local("/data/run", mounts), "");
  EXPECT_EQ(node_local("/tmpfiles/run", mounts), "");
  EXPECT_EQ(node_local("/tmp/shared/run", mounts), "");  // someone mounted a shared disk there
  EXPECT_THAT(node_local("/tmp/run", mounts), HasSubstr("/tmp"));
  EXPECT_THAT(node_local("/tmp", mounts), HasSubstr("/tmp"));
  EXPECT_THAT(node_local("/run/user/0/x", mounts), HasSubstr("/run"));
  EXPECT_THAT(node_local("/dev/shm/x", mounts), HasSubstr("tmpfs"));
  EXPECT_THAT(node_local("/fast disk/x", mounts), HasSubstr("tmpfs at /fast disk"));
  EXPECT_THAT(node_local("/home/mem/x", mounts), HasSubstr("tmpfs"));
}

TEST(DeadlineTest, StopsWhenAnotherChunkWouldNotFit) {
  double now = 1000;
  AllocationEnd deadline(600, [&] { return now; });
  EXPECT_FALSE(deadline.time_is_short(100, 10));  // needs 30 + 150 + 20 = 200 of 600
  now = 1399;
  EXPECT_FALSE(deadline.time_is_short(100, 10));
  EXPECT_FALSE(deadline.was_short());
  now = 1401;
  EXPECT_TRUE(deadline.time_is_short(100, 10));
  EXPECT_TRUE(deadline.was_short());
  EXPECT_TRUE(deadline.time_is_short(0, 0));  // once is for good: ranks agree on it later
  AllocationEnd late(20, [&] { return now; });
  EXPECT_TRUE(late.time_is_short(0, 0));
  AllocationEnd none(std::nullopt, [&] { return now; });
  now = 1e12;
  EXPECT_FALSE(none.time_is_short(1e9, 1e9));
}

TEST(DeadlineTest, SlurmsWarningComesInTime) {
  EXPECT_EQ(warning_s(0, 0), 60);
  for (const double chunk : {1.0, 60.0, 900.0})
    EXPECT_GE(double(warning_s(chunk, 5)), 30 + needed_s(chunk, 5));
}

TEST(DeadlineTest, TheEndOfTheAllocation) {
  setenv("TZ", "UTC", 1);
  tzset();
  EXPECT_EQ(slurm_time("2026-11-24T22:40:19\n"), 1795560019);
  for (const char* none : {"", "NONE", "N/A", "Unknown", "2026-11-24"})
    EXPECT_EQ(slurm_time(none), std::nullopt) << none;
  unsetenv("SLURM_JOB_ID");
  EXPECT_EQ(seconds_left_in_job(), std::nullopt);
  setenv("SLURM_JOB_ID", "42", 1);
  setenv("SLURM_JOB_END_TIME", std::to_string(time(nullptr) + 500).c_str(), 1);
  EXPECT_NEAR(seconds_left_in_job().value_or(0), 500, 2);
  unsetenv("SLURM_JOB_END_TIME");
  const Scratch scratch;  // a squeue of ours
  scratch.write("squeue",
                "#!/bin/sh\n[ \"$*\" = '-a -h -j 42 -o %e' ] && echo 2100-01-01T00:00:00\n");
  chmod((scratch.path / "squeue").c_str(), 0755);
  const std::string path = getenv("PATH");
  setenv("PATH", (scratch.path.string() + ":" + path).c_str(), 1);
  const double raised = 4102444800.0 - double(time(nullptr));
  EXPECT_NEAR(seconds_left_in_job().value_or(0), raised, 2);
  const auto told = [](int64_t left_s) {
    setenv("SLURM_JOB_END_TIME", std::to_string(time(nullptr) + left_s).c_str(), 1);
  };
  for (const int64_t left_s : {-500, 100}) {  // the limit was raised since the job began
    told(left_s);
    EXPECT_NEAR(seconds_left_in_job().value_or(0), raised, 2) << left_s;
  }
  scratch.write("squeue", "#!/bin/sh\nexit 1\n");
  EXPECT_NEAR(seconds_left_in_job().value_or(0), 100, 2);  // nobody knows better
  scratch.write("squeue", "#!/bin/sh\necho 2001-01-01T00:00:00\n");
  told(-500);
  EXPECT_EQ(seconds_left_in_job(), std::nullopt);  // it runs all the same
  setenv("PATH", path.c_str(), 1);
  unsetenv("SLURM_JOB_ID");
  unsetenv("SLURM_JOB_END_TIME");
}

}  // namespace
}  // namespace svfleet
