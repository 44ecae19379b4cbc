// What is svfleet's in a run folder, and that all else is left alone.
#include "checkpoints/run_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <map>
#include <vector>

#include "checkpoints/file.h"
#include "checkpoints/owner.h"
#include "checkpoints/process.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

TEST(RunNames, AreTheFilesOfTheDocumentedFormats) {
  const std::vector<std::string> ours = {"run.json",
                                         "effective.yaml",
                                         "config.yaml",
                                         "owner.json",
                                         "log.jsonl",
                                         "z.jsonl",
                                         "rollouts.jsonl",
                                         "readings.jsonl",
                                         "ledger.jsonl",
                                         "svfleet.log",
                                         "exit.json",
                                         "alive.json",
                                         "restarts.json",
                                         "stop.json",
                                         "clean.json",
                                         "last-line",
                                         "job.sh",
                                         "slurm-17.out",
                                         "curves.png",
                                         "z.png",
                                         "base.json",
                                         "seeds.json",
                                         "base.json.key",
                                         "checkpoints",
                                         "chunks",
                                         "experts",
                                         "bin",
                                         "seed-3",
                                         "random",
                                         "owner.json.after-0123",
                                         "owner.json.left-0123"};
  for (const std::string& name : ours) EXPECT_TRUE(is_run_name("", name)) << name;
  const std::vector<std::string> others = {
      "notes.txt", "run.json.bak", "train.jsonl", "slurm.conf", "model",   "log", "owner.json.bak",
      "my.yaml",   "a.tmp-b",      "Log.jsonl",   "seed-",      "seed-3a", ""};
  for (const std::string& name : others) EXPECT_FALSE(is_run_name("", name)) << name;
  for (const char* name : {"step-000001.h5", "step-1000000.h5.damaged", "step-000001.h5.suspect"})
    EXPECT_TRUE(is_run_name("checkpoints", name)) << name;
  for (const char* name : {"checkpoint-500", "step-.h5", "step-000001.h5.bak", "run.json"})
    EXPECT_FALSE(is_run_name("checkpoints", name)) << name;
  EXPECT_TRUE(is_run_name("chunks", "step-000001-chunk-0002.h5"));
  EXPECT_TRUE(is_run_name("chunks", "step-000001-rank-0002-0123abcd.journal"));
  for (const char* name :
       {"step-000001.h5", "step-000001-rank-0002.journal", "step-000001-rank-0002-.journal",
        "step-000001-rank-2-0123.journal", "step-000001-rank-0002-01 3.journal",
        "step-000001-chunk-0002.journal", "step-000001-rank-0002-0123.h5"})
    EXPECT_FALSE(is_run_name("chunks", name)) << name;
  EXPECT_TRUE(is_run_name("experts", "anybody's.safetensors"));
  for (const char* name : {"best", "last", "final", "best-step-12"})
    EXPECT_TRUE(is_run_expert(std::string(name) + ".safetensors")) << name;
  for (const char* name : {"anybody's.safetensors", "best-step-.safetensors", "best", "notes.txt"})
    EXPECT_FALSE(is_run_expert(name)) << name;
  EXPECT_TRUE(is_run_name("bin", "svfleet"));
  EXPECT_FALSE(is_run_name("bin", "python"));
}

TEST(RunNames, OfAStep) {
  EXPECT_EQ(step_name(12), "step-000012");
  EXPECT_EQ(step_name(1234567), "step-1234567");
  for (const int64_t step : {int64_t{0}, int64_t{12}, int64_t{1234567}, INT64_MAX}) {
    const std::string name = step_name(step) + ".h5";
    ASSERT_TRUE(named_step(name));
    EXPECT_EQ(named_step(name)->step, step);
    EXPECT_EQ(named_step(name)->rest, ".h5");
  }
  for (const char* name : {"step-", "step-.h5", "step--1.h5", "Step-000001", "a-step-000001",
                           "step-99999999999999999999.h5", ""})
    EXPECT_FALSE(named_step(name)) << name;
}

TEST(RunNames, ATemporaryFileHasAMarkBehindAName) {
  const std::string mark = process_mark();
  EXPECT_TRUE(is_run_temporary("", "exit.json.tmp-" + mark));
  EXPECT_TRUE(is_run_temporary("", "log.jsonl.tmp-another-host-17-4711-0"));
  EXPECT_TRUE(is_run_temporary("", "owner.json.after-0123.tmp-" + mark));
  EXPECT_TRUE(is_run_temporary("chunks", "step-000001-rank-0002-0123.journal.tmp-" + mark));
  EXPECT_FALSE(is_run_temporary("", "notes.txt.tmp-" + mark));
  EXPECT_FALSE(is_run_temporary("", "log.jsonl.tmp-before-lunch"));
  EXPECT_FALSE(is_run_temporary("", "log.jsonl"));
}

// A take-over where a user keeps other things in the folder.
TEST(RunNames, ATakeOverTouchesNoOtherFile) {
  const Scratch scratch;
  const std::string run = scratch.path(), mark = process_mark();
  const char* const theirs[] = {"train.jsonl", "notes.tmp-1-1-1", "owner.json.bak",
                                "experts/mine.tmp-1-1-1", "svfleet.log.1"};
  const std::string ours[] = {"exit.json.tmp-" + mark, "checkpoints/step-000001.h5.tmp-" + mark,
                              "owner.json.after-0123"};
  make_folder(run + "/experts");
  make_folder(run + "/checkpoints");
  std::map<std::string, ino_t> inodes;
  const auto inode = [&](const std::string& name) {
    struct stat info;
    return stat((run + "/" + name).c_str(), &info) == 0 ? info.st_ino : 0;
  };
  const Owner old = Owner::take(run, {"node7", 4711, "17", 0, ""});
  for (const char* name : theirs) {
    write_file_atomic(run + "/" + name, "theirs, without an end of line");
    inodes[name] = inode(name);
  }
  for (const std::string& name : ours) write_file_atomic(run + "/" + name, "");
  write_file_atomic(run + "/z.jsonl", "{}\n");
  const ino_t log = inode("z.jsonl");
  const Owner next = Owner::take(run, {"node8", 4712, "17", 1, ""});
  next.shut_out_others();
  for (const char* name : theirs) EXPECT_EQ(inode(name), inodes[name]) << name;
  for (const std::string& name : ours) EXPECT_EQ(inode(name), 0u) << name;
  EXPECT_NE(inode("z.jsonl"), log);  // control: a log of ours that others may have open
}

// `svfleet stop` and `after-run` may be at their file while the run changes hands.
TEST(RunNames, ATakeOverLeavesWhatOthersThanOwnersAreWriting) {
  const Scratch scratch;
  const std::string run = scratch.path(), alive = process_mark();
  const size_t start = alive.rfind('-', alive.rfind('-') - 1);
  const std::string gone = alive.substr(0, start) + "-1-0";  // another process had that pid
  const Owner owner = Owner::take(run, {"node7", 4711, "17", 0, ""});
  for (const char* file : {"stop.json.tmp-", "restarts.json.tmp-", "exit.json.tmp-"})
    for (const std::string& mark : {alive, gone}) write_file_atomic(run + "/" + file + mark, "");
  owner.shut_out_others();
  EXPECT_EQ(list_folder(run), (std::vector<std::string>{"owner.json", "restarts.json.tmp-" + alive,
                                                        "stop.json.tmp-" + alive}));
}

}  // namespace
}  // namespace svfleet
