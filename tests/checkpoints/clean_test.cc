// A run that goes back to its last clean checkpoint, whenever the process dies on the way.
#include "checkpoints/clean.h"

#include <gmock/gmock.h>

#include "checkpoints/expert.h"
#include "checkpoints/file.h"
#include "checkpoints/run_checkpoint.h"
#include "tests/checkpoints/crash_disk.h"
#include "tests/checkpoints/example_state.h"
#include "tests/checkpoints/journal_example.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

void expert(const std::string& run, const std::string& name, const std::string& step) {
  Expert one;
  one.z["w"] = {1, 2};
  one.metadata["step"] = step;
  save_expert(run + "/experts/" + name + ".safetensors", one);
}

// Steps 1 to 5, of which 4 and 5 are suspect, as are the best expert and the journal.
void make_run(const std::string& run) {
  RunState state = example_state();
  for (state.step = 1; state.step <= 5; ++state.step) save_checkpoint(run, state);
  make_folder(run + "/experts");
  expert(run, "best", "5");
  expert(run, "last", "3");
  expert(run, "mine", "5");  // not the run's
  write_journal(run, "a", {example_chunk(5, 0)});
}

const CleanRecord kFound{3, {{1, 2}}, "W on rank 0"};

TEST(Clean, WhatIsSuspectIsSetAside) {
  const Scratch scratch;
  EXPECT_FALSE(read_clean(scratch.path()));
  make_run(scratch.path());
  EXPECT_THAT(finish_setting_aside(scratch.path()), IsEmpty());
  write_clean(scratch.path(), {3, {{1, 2}}, ""});
  EXPECT_THAT(finish_setting_aside(scratch.path()), IsEmpty());
  EXPECT_EQ(set_suspects_aside(scratch.path(), kFound).size(), 3u);
  EXPECT_EQ(load_newest_checkpoint(scratch.path()).state->step, 3);
  EXPECT_THAT(suspect_checkpoints(scratch.path()),
              ElementsAre("step-000004.h5.suspect", "step-000005.h5.suspect"));
  EXPECT_THAT(list_folder(scratch / "experts"),
              ElementsAre("best.safetensors.suspect", "last.safetensors", "mine.safetensors"));
  EXPECT_THAT(list_folder(scratch / "chunks"), IsEmpty());
  EXPECT_EQ(read_clean(scratch.path()), (CleanRecord{3, {{1, 2}}, ""}));
  EXPECT_THAT(finish_setting_aside(scratch.path()), IsEmpty());
}

TEST(Clean, ACrashInTheMiddleIsFinishedByTheNextStart) {
  int64_t crashes = 0, begun = 0;
  for (int64_t at = 0;; ++at) {
    const Scratch scratch;
    bool crashed;
    {
      std::filesystem::create_directories(scratch / "run");
      CrashDisk disk(scratch / "run");
      make_run(scratch / "run");
      disk.crash_at = disk.calls + at;
      try {
        set_suspects_aside(scratch / "run", kFound);
      } catch (const Error&) {
      }
      crashed = disk.crashed();
      for (int variant = 0; variant < CrashDisk::kVariants; ++variant) {
        const std::string left = scratch / ("left" + std::to_string(variant));
        std::filesystem::create_directories(left);
        disk.leave(left, variant);
      }
    }
    for (int variant = 0; variant < CrashDisk::kVariants; ++variant) {
      const std::string left = scratch / ("left" + std::to_string(variant));
      const auto record = read_clean(left);
      finish_setting_aside(left);
      if (!record) continue;  // nothing has begun: the change is found again, or was never told
      ++begun;
      EXPECT_EQ(load_newest_checkpoint(left).state->step, 3) << at << " " << variant;
      EXPECT_THAT(list_folder(left + "/chunks"), IsEmpty());
    }
    if (!crashed) break;
    ++crashes;
  }
  EXPECT_GT(crashes, 15);
  EXPECT_GT(begun, 100);
}

TEST(Clean, ADamagedRecordIsNone) {
  const Scratch scratch;
  write_file_atomic(scratch / "clean.json", "{\"format\": \"svfleet-clean\", \"ver");
  EXPECT_FALSE(read_clean(scratch.path()));
  write_file_atomic(scratch / "clean.json", R"({"format": "svfleet-clean", "version": 2})");
  expect_error(kExitUser, {"clean.json", "another version"}, [&] { read_clean(scratch.path()); });
}

}  // namespace
}  // namespace svfleet
