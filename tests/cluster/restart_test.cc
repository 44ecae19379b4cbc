// What is decided after a run: whether its job is started again.
#include "cluster/restart.h"

#include <fcntl.h>
#include <gmock/gmock.h>

#include <cerrno>

#include "checkpoints/file_system.h"
#include "tests/checkpoints/journal_example.h"
#include "tests/cluster/scratch.h"

namespace svfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class AfterRun : public ::testing::Test {
 protected:
  void report(int code, const std::string& job, int restarts, const std::string& reason = "why",
              int start = 0, const std::string& hosts = "") {
    run_.write("exit.json", "{\"reason\": \"" + reason + "\", \"code\": " + std::to_string(code) +
                                ", \"job\": \"" + job + "\", \"restarts\": " +
                                std::to_string(restarts) + ", \"start\": " + std::to_string(start) +
                                ", \"hosts\": [" + hosts + "], \"step\": 0}");
  }
  RunDecision decide(int restarts = 0, const std::string& job = "42", int patience = 3,
                     bool refused = false, int start = 0) {
    return decide_after_run(
        {run_.path, run_.path / "store", job, restarts, start, patience, refused},
        [](const std::string& other, const std::string&) {
          return other == "41"   ? JobPhase::kOver
                 : other == "39" ? JobPhase::kEnding
                                 : JobPhase::kLives;
        });
  }
  Scratch run_;
};

TEST_F(AfterRun, TheReportDecides) {
  report(0, "42", 0);
  EXPECT_EQ(decide().code, 0);
  for (const int code : {2, 70, 76}) {
    report(code, "42", 0, "the reason");
    EXPECT_EQ(decide().code, code);
    EXPECT_THAT(decide().message, HasSubstr("the reason"));
  }
  report(75, "42", 0, "time limit near");
  EXPECT_EQ(decide().code, 75);
  EXPECT_THAT(decide().message, HasSubstr("time limit near"));
}

TEST_F(AfterRun, AReportOfAnotherStartCountsAsNone) {
  EXPECT_EQ(decide().code, 75);
  report(0, "41", 0);
  EXPECT_EQ(decide(0, "42", 100).code, 75);
  report(2, "42", 0);
  EXPECT_EQ(decide(1, "42", 100).code, 75);
  run_.write("exit.json", "{\"reason\": \"torn");
  EXPECT_EQ(decide(0, "42", 100).code, 75);
  run_.write("exit.json", "[]");
  EXPECT_EQ(decide(0, "42", 100).code, 75);
}

TEST_F(AfterRun, AJobScriptThatComesBackChangesNothing) {
  const auto owner = [&](const std::string& job, int restarts) {
    run_.write("owner.json",
               "{\"format\": \"svfleet-owner\", \"version\": 1, \"host\": \"n2\", "
               "\"pid\": 7, \"process_start\": 0, \"token\": \"t\", "
               "\"started\": \"2026-01-02T03:04:05Z\", \"job\": \"" +
                   job + "\", \"restarts\": " + std::to_string(restarts) + "}");
  };
  owner("42", 2);
  const RunDecision old = decide(1, "42", 1);
  EXPECT_EQ(old.code, 0);
  EXPECT_TRUE(old.taken_over);
  EXPECT_THAT(old.message, HasSubstr("belongs to restart 2"));
  EXPECT_FALSE(fs::exists(run_.path / "restarts.json"));
  // A job that lives, or a process elsewhere, has the run: this one must not start again either.
  for (const char* other : {"40", ""}) {
    owner(other, 0);
    const RunDecision second = decide(1, "42", 1);
    EXPECT_EQ(second.code, 2);
    EXPECT_TRUE(second.taken_over);
    EXPECT_THAT(second.message, HasSubstr("the run belongs to"));
    EXPECT_FALSE(fs::exists(run_.path / "restarts.json"));
  }
  // Controls: its own end, an earlier owner's, and that of a job that is over.
  for (const auto& [job, restarts] : {std::pair{"42", 1}, {"42", 0}, {"41", 2}}) {
    owner(job, restarts);
    EXPECT_EQ(decide(1, "42", 100).code, 75);
    EXPECT_TRUE(fs::exists(run_.path / "restarts.json"));
  }
}

TEST_F(AfterRun, RestartsWithoutProgressEnd) {
  run_.write("checkpoints/step-000004.h5", "");
  write_journal(run_.path, "a", {example_chunk(4, 1)});
  EXPECT_EQ(decide(0).code, 75);
  EXPECT_EQ(decide(1).code, 75);
  EXPECT_EQ(decide(2).code, 75);
  const RunDecision last = decide(3);
  EXPECT_EQ(last.code, 76);
  EXPECT_THAT(last.message, HasSubstr("3 restarts (step 4 and 1 chunks finished)"));
  EXPECT_THAT(last.message, Not(HasSubstr("\n")));
  EXPECT_EQ(decide(0, "43").code, 75);  // a person submitted it again: all tries anew
}

TEST_F(AfterRun, AnyProgressStartsTheCountAnew) {
  const auto stuck = [&] {
    EXPECT_EQ(decide().code, 75);
    EXPECT_EQ(decide().code, 75);
  };
  EXPECT_EQ(decide().code, 75);
  stuck();
  run_.write("store/model.layers.0.mlp.up_proj.weight.h5", "");
  stuck();
  run_.write("checkpoints/step-000000.h5", "");
  stuck();
  write_journal(run_.path, "a", {example_chunk(0, 3)});
  stuck();
  run_.write("checkpoints/step-000001.h5", "");
  fs::remove_all(run_.path / "chunks");
  EXPECT_EQ(decide().code, 75);
  stuck();
  write_journal(run_.path, "a", {example_chunk(0, 3)});  // of a step that is over
  EXPECT_EQ(decide().code, 76);
}

TEST_F(AfterRun, StepsBetweenCheckpointsAreProgress) {
  run_.write("checkpoints/step-000004.h5", "");
  write_journal(run_.path, "a", {example_chunk(4, 1)});
  for (int turn = 0; turn < 6; ++turn) {
    EXPECT_EQ(decide(turn).code, 75) << turn;
    write_journal(run_.path, "b" + std::to_string(turn), {example_chunk(5, turn)});
  }
}

// A long step without a checkpoint: only records say that it gets on, the names stay the same.
TEST_F(AfterRun, RecordsOfTheJournalAreProgress) {
  const std::string run = run_.path, file = "chunks/step-000004-rank-0000-a.journal";
  run_.write("checkpoints/step-000004.h5", "");
  write_journal(run, "a", {example_chunk(4, 0)});
  EXPECT_EQ(decide(0).code, 75);
  for (int turn = 1; turn < 5; ++turn) {  // killed four times and more, with a chunk more each time
    write_journal(run, "a", {example_chunk(4, turn)});
    EXPECT_EQ(decide(turn).code, 75) << turn;
  }
  EXPECT_THAT(decide(5).message, HasSubstr("step 4 and 5 chunks finished"));
  write_journal(run, "b", {example_chunk(4, 3)});  // one that is there already
  EXPECT_EQ(decide(6).code, 75);
  // One that is torn.
  write_journal(run, "a", {example_chunk(4, 5)});
  fs::resize_file(run_.path / file, fs::file_size(run_.path / file) - 1);
  const RunDecision last = decide(7);
  EXPECT_EQ(last.code, 76);
  EXPECT_THAT(last.message, HasSubstr("3 restarts (step 4 and 5 chunks finished)"));
}

// Everything is full, also for the count of the restarts.
struct FullDisk : FileSystem {
  FullDisk() { replace_file_system(this); }
  ~FullDisk() override { replace_file_system(nullptr); }
  int open(const std::string& path, int flags, int mode) override {
    if (!(flags & (O_WRONLY | O_RDWR))) return FileSystem::open(path, flags, mode);
    errno = ENOSPC;
    return -1;
  }
};

TEST_F(AfterRun, AFullDiskDoesNotUndoEarlierProgress) {
  for (int restart = 0; restart < 5; ++restart) {  // five starts that got on
    run_.write("checkpoints/step-00000" + std::to_string(restart) + ".h5", "");
    EXPECT_EQ(decide(restart).code, 75);
  }
  run_.write("checkpoints/step-000005.h5", "");
  const FullDisk full;
  EXPECT_EQ(decide(5).code, 75);  // this one got on as well
  EXPECT_EQ(decide(6).code, 75);
  EXPECT_EQ(decide(7).code, 75);
  EXPECT_EQ(decide(8).code, 76);  // it stays full
}

TEST_F(AfterRun, ADiskThatIsFullFromTheStartEndsTheRestarts) {
  const FullDisk full;
  EXPECT_EQ(decide(0).code, 75);
  EXPECT_EQ(decide(2).code, 75);
  EXPECT_EQ(decide(3).code, 76);
}

// What the disk does not tell is no progress, and no reason to end either.
TEST_F(AfterRun, ADiskThatFailsCountsAsNoProgress) {
  run_.write("checkpoints/step-000004.h5", "");
  EXPECT_EQ(decide(7).code, 75);
  const fs::path checkpoints = run_.path / "checkpoints", away = run_.path / "away";
  fs::rename(checkpoints, away);
  fs::create_symlink(checkpoints, checkpoints);  // ELOOP, as another disk gives ESTALE
  const RunDecision blind = decide(8);
  EXPECT_EQ(blind.code, 75);
  EXPECT_THAT(blind.message, HasSubstr("cannot be read now"));
  EXPECT_EQ(decide(9).code, 75);
  EXPECT_EQ(decide(10).code, 76);  // the third in a row
  EXPECT_EQ(decide(11).code, 75);
  fs::remove(checkpoints);
  fs::rename(away, checkpoints);
  run_.write("checkpoints/step-000005.h5", "");
  for (int restart = 12; restart < 15; ++restart) EXPECT_EQ(decide(restart).code, 75);
  EXPECT_EQ(decide(15).code, 76);  // the control: it counted from step 5
}

TEST_F(AfterRun, ARunFolderOutOfSightDoesNotEndTheRun) {
  run_.write("checkpoints/step-000004.h5", "");
  EXPECT_EQ(decide(20).code, 75);
  const fs::path away = run_.path.string() + "-away";
  fs::rename(run_.path, away);
  EXPECT_EQ(decide(21).code, 75);
  EXPECT_EQ(decide(49).code, 75);
  EXPECT_EQ(decide(21, "42", 3, true).code, 75);  // nor was the configuration in sight
  const RunDecision last = decide(50);
  EXPECT_EQ(last.code, 76);
  EXPECT_THAT(last.message, HasSubstr("cannot be read after 50 restarts"));
  fs::rename(away, run_.path);
  EXPECT_EQ(decide(60).code, 75);  // in sight again: the progress decides, not the restarts
}

TEST_F(AfterRun, AStartThatWasRefusedAsksForAPerson) {
  const RunDecision refused = decide(0, "42", 3, true);
  EXPECT_EQ(refused.code, 2);
  EXPECT_FALSE(refused.taken_over);
  EXPECT_THAT(refused.message, HasSubstr("before the run began"));
  // But not when it was refused because another job has the run: that is none of its business.
  run_.write("owner.json", R"({"format": "svfleet-owner", "version": 1, "host": "n2", "pid": 7, )"
                           R"("process_start": 0, "token": "t", "job": "40", "restarts": 0, )"
                           R"("started": "2026-01-02T03:04:05Z"})");
  const RunDecision second = decide(0, "42", 3, true);
  EXPECT_TRUE(second.taken_over);
  EXPECT_THAT(second.message, HasSubstr("the run belongs to job 40"));
}

TEST_F(AfterRun, AHostsOwnFaultIsKeptForTheRestartOfTheJob) {
  report(75, "42", 1, "a GPU", 0, "\"n2\"");
  const RunDecision first = decide(1);
  EXPECT_EQ(first.code, 75);
  EXPECT_TRUE(first.by_host);
  EXPECT_THAT(first.at_fault, ElementsAre("n2"));
  EXPECT_FALSE(decide(1, "42", 9, false, 1).by_host);  // of another start: none of this one
  report(75, "42", 1, "a GPU", 1, "\"n4\", \"n2\"");
  const RunDecision second = decide(1, "42", 9, false, 1);
  EXPECT_TRUE(second.by_host);
  EXPECT_THAT(second.at_fault, ElementsAre("n2", "n4"));
  report(75, "42", 1, "stopped by SIGTERM", 2);
  EXPECT_FALSE(decide(1, "42", 9, false, 2).by_host);
  EXPECT_THAT(decide(1, "42", 9, false, 2).at_fault, ElementsAre("n2", "n4"));
  // Started elsewhere: taken back.
  report(75, "42", 2);
  EXPECT_THAT(decide(2, "42", 9).at_fault, IsEmpty());
}

TEST_F(AfterRun, ADiskThatFailsUnderSeveralHostsIsNoHostsFault) {
  report(74, "42", 0, "a disk", 0, "\"n2\"");
  EXPECT_TRUE(decide(0, "42", 9).by_host);
  report(74, "42", 0, "a disk", 1, "\"n2\"");  // the same again
  EXPECT_TRUE(decide(0, "42", 9, false, 1).by_host);
  report(74, "42", 0, "a disk", 2, "\"n1\"");
  const RunDecision second = decide(0, "42", 9, false, 2);
  EXPECT_EQ(second.code, 75);
  EXPECT_FALSE(second.by_host);
  EXPECT_THAT(second.at_fault, IsEmpty());
  report(74, "42", 0, "a disk", 3, "\"n1\", \"n2\"");  // at once
  EXPECT_FALSE(decide(0, "42", 9, false, 3).by_host);
  report(74, "42", 0, "disk full", 4);
  EXPECT_FALSE(decide(0, "42", 9, false, 4).by_host);
}

TEST_F(AfterRun, StartsInTheAllocationCountForPatience) {
  run_.write("checkpoints/step-000004.h5", "");
  EXPECT_EQ(decide(0).code, 75);
  for (int start = 1; start < 3; ++start) {
    report(75, "42", 0, "a GPU", start, "\"n2\"");
    EXPECT_TRUE(decide(0, "42", 3, false, start).by_host);
  }
  report(75, "42", 0, "a GPU", 3, "\"n2\"");
  EXPECT_EQ(decide(0, "42", 3, false, 3).code, 76);
  const FullDisk full;  // where no count can be kept
  EXPECT_EQ(decide(0, "43", 3, false, 2).code, 75);
  EXPECT_EQ(decide(0, "43", 3, false, 3).code, 76);
}

TEST_F(AfterRun, AnEarlierStartOfTheSameRestartIsNoOtherOwner) {
  run_.write("owner.json", R"({"format": "svfleet-owner", "version": 1, "host": "n2", "pid": 7, )"
                           R"("process_start": 0, "token": "t", "job": "42", "restarts": 1, )"
                           R"("start": 2, "started": "2026-01-02T03:04:05Z"})");
  EXPECT_TRUE(decide(1, "42", 9, false, 1).taken_over);
  EXPECT_FALSE(decide(1, "42", 9, false, 2).taken_over);
  EXPECT_FALSE(decide(2, "42", 9, false, 0).taken_over);
}

TEST_F(AfterRun, AnOwnerWhoseJobIsEndingIsWaitedFor) {
  run_.write("owner.json", R"({"format": "svfleet-owner", "version": 1, "host": "n2", "pid": 7, )"
                           R"("process_start": 0, "token": "t", "job": "39", "restarts": 0, )"
                           R"("started": "2026-01-02T03:04:05Z"})");
  const RunDecision ending = decide(1);
  EXPECT_EQ(ending.code, 75);
  EXPECT_TRUE(ending.taken_over);
  EXPECT_THAT(ending.message, HasSubstr("still ending"));
  EXPECT_EQ(decide(50).code, 2);  // not for ever
}

}  // namespace
}  // namespace svfleet
