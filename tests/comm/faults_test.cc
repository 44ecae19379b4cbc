// Ranks that do not come, come to the wrong place or die: real jobs under mpirun, with what they
// print and how they end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "comm/error.h"

namespace svfleet {
namespace {

using testing::HasSubstr;
using testing::Not;

struct Job {
  std::string output;
  int code = -1;
  double seconds = 0;
};

Job mpirun(int ranks, const std::string& mode, double timeout_s, const std::string& options = "",
           double least_still_s = 60) {
  const std::string command =
      std::string(MPIEXEC) + " --allow-run-as-root --oversubscribe --bind-to none " + options +
      " -n " + std::to_string(ranks) + " " FAULT_RANK " " + mode + " " + std::to_string(timeout_s) +
      " " + std::to_string(least_still_s) + " 2>&1";
  const auto start = std::chrono::steady_clock::now();
  Job job;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) job.output.append(buffer, n);
  const int status = pclose(pipe);
  job.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  job.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return job;
}

std::string host() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

int count(const std::string& text, const std::string& part) {
  int n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

constexpr double kPatience = 25;  // beyond the deadlines, for a crowded machine

TEST(Faults, AbsentRanksAreNamedOnEveryRankThatCame) {
  const Job job = mpirun(4, "absent", 2);
  const std::string line = "timeout after 2 s in 'reduce gradient' of step 12: ranks 1 (host " +
                           host() + "), 3 (host " + host() + ") did not arrive";
  EXPECT_EQ(count(job.output, line), 2) << job.output;  // ranks 0 and 2
  EXPECT_EQ(job.code, kExitRequeue);
  EXPECT_LT(job.seconds, kPatience);
}

TEST(Faults, LateIsNotAbsent) {
  const Job job = mpirun(2, "late", 5);
  EXPECT_THAT(job.output, HasSubstr("sum 1\n"));
  EXPECT_THAT(job.output, Not(HasSubstr("timeout")));
  EXPECT_EQ(job.code, kExitFinished);
}

TEST(Faults, AbsentRankZeroIsNamed) {
  const Job job = mpirun(2, "absent_root", 2);
  EXPECT_THAT(job.output, HasSubstr("timeout after 2 s in 'open the store' of step 12: rank 0 "
                                    "(host " +
                                    host() + ") did not arrive"));
  EXPECT_EQ(job.code, kExitRequeue);
  EXPECT_LT(job.seconds, kPatience);
}

TEST(Faults, WhoWaitsForALateRankZeroDoesNotBlameIt) {
  const Job job = mpirun(3, "late_root", 4);
  EXPECT_EQ(count(job.output, "in 'late root' of step 12: rank 2 (host"), 2) << job.output;
  EXPECT_THAT(job.output, Not(HasSubstr("rank 0 (host")));
  EXPECT_EQ(job.code, kExitRequeue);
}

TEST(Faults, KilledRankEndsTheJob) {
  const Job job = mpirun(4, "killed", 5);
  EXPECT_NE(job.code, 0);
  EXPECT_LT(job.seconds, 5 + kPatience);
}

// With a launcher that does not end the job by itself, the deadline does.
TEST(Faults, KilledRankIsNamedWhenTheLauncherCarriesOn) {
  const Job job = mpirun(4, "killed", 2, "--enable-recovery");
  EXPECT_THAT(job.output, HasSubstr("in 'reduce gradient' of step 12: rank 1 (host " + host() +
                                    ") did not arrive"));
  EXPECT_LT(job.seconds, kPatience);
}

TEST(Faults, DifferentCallsAreNamed) {
  const Job job = mpirun(3, "other_call", 20);
  EXPECT_THAT(job.output, HasSubstr("rank 2 (host " + host() +
                                    ") is in 'save' (barrier) of step 12 "
                                    "while rank 0 (host " +
                                    host() +
                                    ") is in 'reduce gradient' "
                                    "(sum of 1 numbers) of step 12"));
  EXPECT_EQ(job.code, kExitInternal);
}

TEST(Faults, DifferentSizesAreNamed) {
  const Job job = mpirun(2, "other_size", 20);
  EXPECT_THAT(job.output, HasSubstr("(sum of 2 numbers)"));
  EXPECT_THAT(job.output, HasSubstr("(sum of 1 numbers)"));
  EXPECT_EQ(job.code, kExitInternal);
}

// What the ranks of a host give each other is waited for likewise.
TEST(Faults, ARankOfAHostThatDoesNotSendOrTakeIsNamed) {
  Job job = mpirun(3, "host_absent_sender", 2);
  EXPECT_THAT(job.output, HasSubstr("timeout after 2 s in 'share W' of q_proj' of step 12: rank 1 "
                                    "(host " +
                                    host() + ") did not send it to rank "));
  EXPECT_EQ(job.code, kExitRequeue);
  EXPECT_LT(job.seconds, kPatience);
  job = mpirun(3, "host_absent_taker", 2);
  EXPECT_EQ(
      count(job.output, "timeout after 2 s in 'share W' of q_proj' of step 12: rank 1 (host " +
                            host() + ") did not take it from rank 0"),
      1)
      << job.output;
  EXPECT_EQ(job.code, kExitRequeue);
  job = mpirun(3, "host_other_call", 20);
  EXPECT_THAT(job.output,
              HasSubstr("rank 1 (host " + host() + ") is in 'share W' of k_proj' while"));
  EXPECT_EQ(job.code, kExitInternal);
}

// One rank's own error ends all ranks at once, with its code and its line.
TEST(Faults, AnExceptionOnOneRankEndsTheJobWithItsCode) {
  const Job job = mpirun(3, "exception", 60);
  EXPECT_THAT(job.output, HasSubstr("cannot read 'x.jsonl'"));
  EXPECT_EQ(job.code, kExitUser);
  EXPECT_LT(job.seconds, kPatience);
}

TEST(Faults, ExitAndAbortEndTheJobWithTheirCode) {
  EXPECT_EQ(mpirun(3, "exit", 60).code, kExitDisk);
  EXPECT_EQ(mpirun(3, "abort", 60).code, kExitNoProgress);
}

TEST(Faults, SilentQueueIsNamed) {
  const Job job = mpirun(2, "silent_queue", 3);
  EXPECT_THAT(job.output,
              HasSubstr("timeout after 3 s in 'ask for a chunk' of step 12: rank 0 (host " +
                        host() + ") did not answer rank 1 (host " + host() + ")"));
  EXPECT_LT(job.seconds, kPatience + 10);
}

// Slow is not hung: whoever gives signs of life is waited for, by all.
TEST(Faults, ARankThatIsSlowWithAChunkIsWaitedFor) {
  const Job job = mpirun(3, "slow_chunk", 2);
  EXPECT_THAT(job.output, HasSubstr("finished 4"));
  EXPECT_THAT(job.output, Not(HasSubstr("timeout")));
  EXPECT_EQ(job.code, kExitFinished);
  EXPECT_GT(job.seconds, 5);
}

TEST(Faults, ARankThatStopsInsideAChunkIsNamedWithIt) {
  const Job job = mpirun(3, "stopped_chunk", 2);
  EXPECT_THAT(job.output, HasSubstr("timeout after 2 s in 'chunks' of step 12: rank 1 (host " +
                                    host() + ") holds chunk "));
  EXPECT_THAT(job.output, HasSubstr("gives no sign of life"));
  EXPECT_EQ(job.code, kExitRequeue);
  EXPECT_LT(job.seconds, kPatience);
}

// Rank 0 looks after the others, and nobody after rank 0 but itself; so does a process alone. Of
// work that never said a word nothing can be expected: ten timeouts.
TEST(Faults, AThreadOfRankZeroThatHangsInAChunkEndsTheJob) {
  for (int ranks : {1, 2}) {
    const Job job = mpirun(ranks, "stuck_chunk", 1, "", 1);
    EXPECT_THAT(job.output, HasSubstr("timeout after 10 s in 'chunks' of step 12: rank 0 (host " +
                                      host() + ") lives, but its chunk 1 stands still"));
    EXPECT_EQ(job.code, kExitRequeue) << job.output;
    EXPECT_GT(job.seconds, 10);
    EXPECT_LT(job.seconds, 10 + kPatience);
  }
}

TEST(Faults, AChunkThatMovesIsWaitedForWithoutLimit) {
  for (int ranks : {1, 2}) {
    const Job job = mpirun(ranks, "moving_chunk", 1);
    EXPECT_THAT(job.output, HasSubstr("finished 3"));
    EXPECT_THAT(job.output, Not(HasSubstr("timeout")));
    EXPECT_EQ(job.code, kExitFinished);
    EXPECT_GT(job.seconds, 14);
  }
}

// Long before any multiple of the timeout.
TEST(Faults, AChunkThatStandsStillIsGivenUp) {
  for (int ranks : {1, 2}) {
    const Job job = mpirun(ranks, "standing_chunk", 60, "", 4);
    EXPECT_THAT(job.output, HasSubstr("in 'chunks' of step 12: rank " + std::to_string(ranks - 1) +
                                      " (host " + host() + ") lives, but its chunk "));
    EXPECT_THAT(job.output, HasSubstr("stands still in a token"));
    EXPECT_EQ(job.code, kExitRequeue) << job.output;
    EXPECT_LT(job.seconds, 5 + kPatience);
  }
}

// Of a worker with several chunks: one that waits for another stands for three times the limit
// here.
TEST(Faults, AChunkThatWaitsBehindAnotherIsNotStill) {
  for (int ranks : {1, 2}) {
    const Job job = mpirun(ranks, "waiting_chunk", 60, "", 4);
    EXPECT_THAT(job.output, HasSubstr("finished 6"));
    EXPECT_THAT(job.output, Not(HasSubstr("timeout")));
    EXPECT_EQ(job.code, kExitFinished);
  }
}

TEST(Faults, AWorkerThatHangsIsNamedByTheChunkThatItHangsIn) {
  for (int ranks : {1, 2}) {
    const Job job = mpirun(ranks, "hanging_hand", 60, "", 4);
    EXPECT_THAT(job.output, HasSubstr("in 'chunks' of step 12: rank " + std::to_string(ranks - 1) +
                                      " (host " + host() +
                                      ") lives, but its chunk 2 stands "
                                      "still in a token"));
    EXPECT_EQ(job.code, kExitRequeue) << job.output;
    EXPECT_LT(job.seconds, 5 + kPatience);
  }
}

// Signs of life count in collectives too.
TEST(Faults, ARankThatStillLoadsIsNotMissing) {
  for (const char* mode : {"loading", "loading_root"}) {
    const Job job = mpirun(3, mode, 2);
    EXPECT_THAT(job.output, HasSubstr("sum 3\n")) << mode;
    EXPECT_THAT(job.output, Not(HasSubstr("timeout")));
    EXPECT_EQ(job.code, kExitFinished);
    EXPECT_GT(job.seconds, 7);
  }
}

TEST(Faults, ARankThatStopsLoadingIsMissing) {
  const Job job = mpirun(3, "standing_load", 2);
  EXPECT_EQ(count(job.output,
                  "in 'reduce gradient' of step 12: rank 1 (host " + host() + ") did not arrive"),
            2)
      << job.output;
  EXPECT_EQ(job.code, kExitRequeue);
  EXPECT_LT(job.seconds, kPatience);
}

// What cannot be said does not hold up the end.
TEST(Faults, AHungStandardErrorAndALockedStdioDoNotKeepAProcess) {
  const Job job = mpirun(1, "stuck_stdio", 60, "", 2);
  EXPECT_EQ(job.code, kExitRequeue) << job.output;
  EXPECT_LT(job.seconds, 2 + 5 + kPatience);
}

}  // namespace
}  // namespace svfleet
