// Rank and size from the variables of each launcher.
#include <gtest/gtest.h>

#include <cstdlib>

#include "comm/error.h"
#include "comm/group.h"

namespace svfleet {
namespace {

class Launch : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name :
         {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
          "SLURM_LOCALID", "PMIX_RANK", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS",
          "SLURM_STEP_NUM_TASKS", "PMI_RANK", "SVFLEET_MPI"})
      unsetenv(name);
  }
  void set(const char* name, const char* value) { setenv(name, value, 1); }
};

TEST_F(Launch, Alone) {
  EXPECT_EQ(launch_rank(), 0);
  EXPECT_EQ(launch_size(), 1);
  const auto world = make_world({});
  EXPECT_EQ(world->size(), 1);
}

TEST_F(Launch, OpenMpiFirst) {
  set("OMPI_COMM_WORLD_RANK", "3");
  set("OMPI_COMM_WORLD_SIZE", "8");
  set("SLURM_STEP_ID", "0");
  set("SLURM_PROCID", "1");
  set("SLURM_NTASKS", "2");
  EXPECT_EQ(launch_rank(), 3);
  EXPECT_EQ(launch_size(), 8);
}

TEST_F(Launch, RankOnThisHost) {
  EXPECT_EQ(launch_local_rank(), 0);
  set("SLURM_LOCALID", "3");  // of the batch script: means nothing
  EXPECT_EQ(launch_local_rank(), 0);
  set("SLURM_STEP_ID", "0");
  EXPECT_EQ(launch_local_rank(), 3);
  set("OMPI_COMM_WORLD_LOCAL_RANK", "1");
  EXPECT_EQ(launch_local_rank(), 1);
}

TEST_F(Launch, SlurmStep) {
  set("SLURM_STEP_ID", "0");
  set("SLURM_PROCID", "1");
  set("SLURM_NTASKS", "4");
  EXPECT_EQ(launch_rank(), 1);
  EXPECT_EQ(launch_size(), 4);
  set("SLURM_STEP_NUM_TASKS", "2");  // the step is smaller than the job
  EXPECT_EQ(launch_size(), 2);
}

TEST_F(Launch, BatchScriptIsAlone) {
  set("SLURM_PROCID", "0");
  set("SLURM_NTASKS", "4");
  EXPECT_EQ(launch_size(), 1);
}

// Open MPI would print two pages and exit.
TEST_F(Launch, SlurmStepWithoutPmixSaysWhatToDo) {
#ifdef SVFLEET_HAVE_MPI
  set("SLURM_STEP_ID", "0");
  set("SLURM_PROCID", "1");
  set("SLURM_NTASKS", "4");
  try {
    make_world({});
    FAIL() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_NE(std::string(error.what()).find("--mpi=pmix"), std::string::npos);
  }
#else
  GTEST_SKIP() << "built without MPI";
#endif
}

TEST_F(Launch, RankOfAnotherPmixLauncher) {
  set("PMIX_RANK", "5");
  EXPECT_EQ(launch_rank(), 5);
}

TEST_F(Launch, NonsenseIsNamed) {
  set("OMPI_COMM_WORLD_SIZE", "two");
  try {
    launch_size();
    FAIL() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_NE(std::string(error.what()).find("OMPI_COMM_WORLD_SIZE='two'"), std::string::npos);
  }
}

}  // namespace
}  // namespace svfleet
