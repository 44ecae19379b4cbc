// What may lie in a folder in which a run is to begin.
#include "checkpoints/before_run.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "checkpoints/file.h"
#include "checkpoints/owner.h"
#include "checkpoints/process.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

namespace fs = std::filesystem;

void put(const std::string& path, const std::string& text) {
  fs::create_directories(fs::path(path).parent_path());
  write_file_atomic(path, text);
}

TEST(BeforeRun, NothingIsInTheWayInAnEmptyFolderOrNone) {
  const Scratch scratch;
  EXPECT_EQ(foreign_names(scratch / "none", ""), "");
  EXPECT_EQ(foreign_names(scratch.path(), ""), "");
}

TEST(BeforeRun, OtherNamesAreNamedAndTheConfigIsNot) {
  const Scratch scratch;
  put(scratch / "mine.yaml", "");
  EXPECT_EQ(foreign_names(scratch.path(), ""), "'mine.yaml'");
  EXPECT_EQ(foreign_names(scratch.path(), scratch / "experts/../mine.yaml"), "");
  make_folder(scratch / "data");
  put(scratch / "experts/notes", "");
  put(scratch / "b", "");
  EXPECT_EQ(foreign_names(scratch.path(), scratch / "mine.yaml"), "'b', 'data/', 'experts/notes'");
  put(scratch / "c", "");
  EXPECT_EQ(foreign_names(scratch.path(), ""), "'b', 'c', 'data/' and 2 more");
}

// Each would be appended to or replaced.
TEST(BeforeRun, OurOwnNamesAreNobodysUntilThereIsARun) {
  for (const char* name : {"alive.json",
                           "clean.json",
                           "config.yaml",
                           "effective.yaml",
                           "exit.json",
                           "job.sh",
                           "last-line",
                           "ledger.jsonl",
                           "log.jsonl",
                           "owner.json",
                           "owner.json.after-0123",
                           "owner.json.left-0123",
                           "restarts.json",
                           "rollouts.jsonl",
                           "stop.json",
                           "svfleet.log",
                           "z.jsonl",
                           "curves.png",
                           "z.png",
                           "evaluation.json",
                           "bin/svfleet",
                           "bin/lib",
                           "bin/program.json",
                           "checkpoints/step-000001.h5",
                           "checkpoints/weights.h5",
                           "chunks/step-000001-chunk-0002.h5",
                           "experts/best.safetensors"}) {
    const Scratch scratch;
    put(scratch / name, "theirs");
    EXPECT_EQ(foreign_names(scratch.path(), ""), "'" + std::string(name) + "'");
    EXPECT_EQ(foreign_names(scratch.path(), scratch / name), "") << name << " as the CONFIG";
  }
  for (const char* name : {"bin", "chunks", "experts"}) {
    const Scratch scratch;
    put(scratch / name, "a file");
    EXPECT_EQ(foreign_names(scratch.path(), ""), "'" + std::string(name) + "'");
  }
  for (const char* name : {"checkpoints", "chunks", "experts", "log.jsonl"}) {
    const Scratch scratch;
    make_folder(scratch / name);
    EXPECT_EQ(foreign_names(scratch.path(), ""), "'" + std::string(name) + "/'");
  }
}

// A person may want a log elsewhere.
TEST(BeforeRun, ALinkToNothingIsNotInTheWay) {
  const Scratch scratch, other;
  fs::create_symlink(other / "svfleet.log", scratch / "svfleet.log");
  EXPECT_EQ(foreign_names(scratch.path(), ""), "");
  put(other / "svfleet.log", "theirs");
  EXPECT_EQ(foreign_names(scratch.path(), ""), "'svfleet.log'");
}

TEST(BeforeRun, WhatSubmitAndItsJobLeaveIsNotInTheWay) {
  const Scratch scratch;
  put(scratch / "bin/svfleet", "an earlier build");
  put(scratch / "job.sh", "#!/bin/bash\n");
  EXPECT_EQ(foreign_names(scratch.path(), ""), "'bin/svfleet', 'job.sh'");
  put(scratch / "bin/program.json", "{\n \"format\": \"svfleet-program\",\n \"hash\": \"0\"\n}\n");
  fs::create_symlink("/tmp", scratch / "bin/lib");
  put(scratch / "ledger.jsonl", "{\"kind\":\"submitted\",\"time\":1.5,\"jobs\":[\"17\"]}\n");
  put(scratch / "slurm-17.out", "svfleet job: 17\n");
  put(scratch / "restarts.json", "{\n  \"at_fault\": [],\n  \"chunks\": 0\n}\n");
  put(scratch / "stop.json", "{\n \"format\": \"svfleet-stop\",\n \"version\": 1\n}\n");
  EXPECT_EQ(foreign_names(scratch.path(), ""), "");
  put(scratch / "bin/python", "");
  EXPECT_EQ(foreign_names(scratch.path(), ""), "'bin/python'");
}

TEST(BeforeRun, ACopyOfThisProgramIsOfASubmitThatWasKilled) {
  const Scratch scratch;
  put(scratch / "bin/svfleet", read_file("/proc/self/exe"));
  fs::create_symlink("/tmp", scratch / "bin/lib");
  EXPECT_EQ(foreign_names(scratch.path(), ""), "");
}

TEST(BeforeRun, WhatAKilledStartLeavesIsNotInTheWay) {
  const Scratch scratch;
  {
    const Owner owner = Owner::take(scratch.path(), {"node7", 4711, "17", 0, ""});
    EXPECT_EQ(foreign_names(scratch.path(), ""), "");
    put(scratch / "owner.json.after-0123", read_file(scratch / "owner.json"));
    put(scratch / "run.json.tmp-" + process_mark(), "{");
    put(scratch / "owner.json.left-0123", "");  // torn by a crash
    EXPECT_EQ(foreign_names(scratch.path(), ""), "");
  }
  put(scratch / "owner.json", "");
  EXPECT_EQ(foreign_names(scratch.path(), ""), "");
}

TEST(BeforeRun, WhatScriptsKeepBesideARunIsNotInTheWay) {
  const Scratch scratch;
  for (const char* name : {"base.json", "base.json.key", "seeds.json", "seed-3/run.json"})
    put(scratch / name, "{}");
  EXPECT_EQ(foreign_names(scratch.path(), ""), "");
}

}  // namespace
}  // namespace svfleet
