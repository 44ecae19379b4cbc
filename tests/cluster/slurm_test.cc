// Slurm's environment, and what squeue's answers mean; a script of ours stands in for squeue.
#include "cluster/slurm.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cluster/program.h"

namespace svfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(NodeList, IsWrittenOut) {
  EXPECT_THAT(expand_node_list(""), IsEmpty());
  EXPECT_THAT(expand_node_list("n1"), ElementsAre("n1"));
  EXPECT_THAT(expand_node_list("n[1-3,07],m"), ElementsAre("n1", "n2", "n3", "n07", "m"));
  EXPECT_THAT(expand_node_list("n[08-11]"), ElementsAre("n08", "n09", "n10", "n11"));
  EXPECT_THAT(expand_node_list("a,b-2"), ElementsAre("a", "b-2"));
  EXPECT_THAT(expand_node_list("r[1-2]n[5-6]"), ElementsAre("r1n5", "r1n6", "r2n5", "r2n6"));
  for (const char* broken : {"n[1-", "n[]", "n[3-1]", "n[a]", "n]", ",", "n[1-99999999]"})
    EXPECT_THAT(expand_node_list(broken), ElementsAre(broken));
}

class SlurmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "svfleet-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = std::getenv("PATH");
  }
  void TearDown() override {
    setenv("PATH", path_.c_str(), 1);
    for (const char* name : {"SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_JOB_NODELIST",
                             "SLURM_JOB_END_TIME", "SQUEUE_STATES", "SLURM_CLUSTER_NAME"})
      unsetenv(name);
    std::filesystem::remove_all(folder_);
  }
  void squeue(const std::string& body) { program("squeue", body); }
  void program(const char* name, const std::string& body) {
    const auto file = folder_ / name;
    std::ofstream(file) << "#!/bin/sh\necho \"$@\" >> " << (folder_ / "asked").string() << "\n"
                        << body << "\n";
    chmod(file.c_str(), 0755);
    setenv("PATH", (folder_.string() + ":" + path_).c_str(), 1);
  }
  std::string asked() {
    std::ifstream in(folder_ / "asked");
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  std::filesystem::path folder_;
  std::string path_;
};

TEST_F(SlurmTest, Environment) {
  SlurmJob job = slurm_job();
  EXPECT_EQ(job.job, "");
  EXPECT_EQ(job.restarts, 0);
  EXPECT_THAT(job.nodes, IsEmpty());
  EXPECT_FALSE(job.end_time);
  setenv("SLURM_JOB_ID", "42", 1);
  setenv("SLURM_RESTART_COUNT", "3", 1);
  setenv("SLURM_JOB_NODELIST", "n[1-2]", 1);
  setenv("SLURM_JOB_END_TIME", "1700000000", 1);
  job = slurm_job();
  EXPECT_EQ(job.job, "42");
  EXPECT_EQ(job.restarts, 3);
  EXPECT_THAT(job.nodes, ElementsAre("n1", "n2"));
  EXPECT_EQ(job.end_time, 1700000000);
  setenv("SLURM_RESTART_COUNT", "many", 1);
  setenv("SLURM_JOB_END_TIME", "", 1);
  EXPECT_EQ(slurm_job().restarts, 0);
  EXPECT_FALSE(slurm_job().end_time);
}

TEST_F(SlurmTest, NameOfTheCluster) {
  program("scontrol",
          "printf 'Configuration data\\nCliFilterPlugins = (null)\\n"
          "ClusterName             = alps\\nCommunication = x\\n'");
  EXPECT_EQ(cluster_name(), "alps");
  EXPECT_EQ(asked(), "show config\n");
  setenv("SLURM_CLUSTER_NAME", "jura", 1);
  EXPECT_EQ(cluster_name(), "jura");
  unsetenv("SLURM_CLUSTER_NAME");
  program("scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1");
  EXPECT_EQ(cluster_name(), "");
}

TEST_F(SlurmTest, AJobOfAnotherClusterHasNotEnded) {
  setenv("SLURM_CLUSTER_NAME", "jura", 1);
  squeue("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
  EXPECT_FALSE(job_ended("42", "alps"));
  EXPECT_EQ(asked(), "");
  EXPECT_FALSE(job_ended("", "jura"));
  EXPECT_TRUE(job_ended("42", "jura"));  // controls
  EXPECT_TRUE(job_ended("42", ""));
}

TEST_F(SlurmTest, WhatTheAnswersMean) {
  for (const char* state : {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED",
                            "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}) {
    squeue(std::string("echo ") + state);
    EXPECT_TRUE(job_ended("42")) << state;
  }
  for (const char* state : {"RUNNING", "PENDING", "COMPLETING", "SUSPENDED", "REQUEUED",
                            "CONFIGURING", "STOPPED", "nonsense"}) {
    squeue(std::string("echo ") + state);
    EXPECT_FALSE(job_ended("42")) << state;
  }
  squeue("true");  // known, but neither pending nor running
  EXPECT_TRUE(job_ended("42"));
  squeue("echo COMPLETING");
  EXPECT_EQ(job_phase("42", ""), JobPhase::kEnding);
  squeue("printf 'COMPLETING\\nCOMPLETED\\n'");
  EXPECT_EQ(job_phase("42", ""), JobPhase::kEnding);
  squeue("printf 'COMPLETING\\nRUNNING\\n'");
  EXPECT_EQ(job_phase("42", ""), JobPhase::kLives);
  squeue("exit 1");
  EXPECT_EQ(job_phase("42", ""), JobPhase::kUnknown);
  squeue("echo svfleet-a");
  EXPECT_EQ(job_name("42"), "svfleet-a");
  EXPECT_EQ(job_name("-h"), "");
  squeue("printf 'COMPLETED\\nRUNNING\\n'");
  EXPECT_FALSE(job_ended("42_1"));
  squeue("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
  EXPECT_TRUE(job_ended("42"));
  squeue("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1");
  EXPECT_FALSE(job_ended("42"));
  EXPECT_THAT(asked(), ::testing::HasSubstr("-a -h -j 42 -o %T\n"));
}

TEST_F(SlurmTest, ASilentSqueueIsGivenUp) {
  squeue("exec sleep 30");
  const auto before = std::chrono::steady_clock::now();
  EXPECT_FALSE(job_ended("42", 0.3));
  squeue("exec >&- 2>&-; exec sleep 30");  // closes its outputs and goes on
  EXPECT_FALSE(job_ended("42", 0.3));
  squeue("sleep 30 & echo COMPLETED");  // a grandchild keeps the pipe open
  EXPECT_FALSE(job_ended("42", 0.3));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - before;
  EXPECT_LT(took.count(), 5);
}

// What an earlier call has left in errno says nothing of the end of an output.
TEST_F(SlurmTest, AnInterruptThatIsLongPastDelaysNoAnswer) {
  for (const char* body : {"exit 3", "echo x; exit 3"}) {
    errno = EINTR;
    const Answer answer = run_program({"/bin/sh", "-c", body}, 2);
    EXPECT_TRUE(answer.complete);
    EXPECT_EQ(answer.exit_code, 3);
  }
}

// Slurm may be told to hide the jobs of other users (PrivateData=jobs).
TEST_F(SlurmTest, AnotherUsersJobIsOverOnlyWhereSlurmSaysSo) {
  for (const char* hidden :
       {"echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "true"}) {
    squeue(hidden);
    EXPECT_EQ(job_phase("42", "", false), JobPhase::kUnknown) << hidden;
    EXPECT_FALSE(job_ended("42", "", false)) << hidden;
    EXPECT_TRUE(job_ended("42", "", true)) << hidden;  // control
  }
  squeue("echo COMPLETED");
  EXPECT_TRUE(job_ended("42", "", false));
  squeue("printf 'COMPLETING\\nCOMPLETED\\n'");
  EXPECT_EQ(job_phase("42", "", false), JobPhase::kEnding);
  squeue("printf 'COMPLETED\\nRUNNING\\n'");
  EXPECT_EQ(job_phase("42", "", false), JobPhase::kLives);
}

TEST_F(SlurmTest, NobodyToAsk) {
  setenv("PATH", folder_.c_str(), 1);
  EXPECT_FALSE(job_ended("42"));
}

TEST_F(SlurmTest, WhatIsNoJobIsNotAsked) {
  squeue("true");
  for (const char* job : {"", "-h", "42;true", "all", "$(true)", "4 2"})
    EXPECT_FALSE(job_ended(job)) << job;
  EXPECT_EQ(asked(), "");
}

TEST_F(SlurmTest, FiltersOfTheUserDoNotHideJobs) {
  setenv("SQUEUE_STATES", "PENDING", 1);
  squeue("[ -n \"$SQUEUE_STATES\" ] || echo RUNNING");
  EXPECT_FALSE(job_ended("42"));
}

}  // namespace
}  // namespace svfleet
