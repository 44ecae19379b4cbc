// Whatever happens in the middle of a save, a good checkpoint remains. Real processes that are
// killed: kill_test.cc.
#include <gtest/gtest.h>

#include <memory>

#include "checkpoints/file.h"
#include "checkpoints/publish.h"
#include "checkpoints/run_checkpoint.h"
#include "tests/checkpoints/crash_disk.h"
#include "tests/checkpoints/journal_example.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

// Every number tells the step (and the attempt), so that a mixture of two states would show.
RunState state_of(int64_t step, size_t n = 50, float attempt = 0) {
  RunState s;
  s.step = step;
  s.slots = {{"w", 0, static_cast<int64_t>(n)}};
  s.p.assign(n, static_cast<float>(step) + attempt);
  s.m = s.v = s.p;
  return s;
}

struct Crashes {
  int64_t points = 0;  // system calls at which the save was cut
  int64_t states = 0;  // disks looked at
  int64_t lost = 0;    // of them without the checkpoint that must be there
};

// Prepares a disk, runs `save` and crashes it at every one of its system calls in turn.
// `good(folder, returned)` looks at what a crash left; `returned` says that save() had ended.
template <class Prepare, class Save, class Good>
Crashes crash_everywhere(Prepare prepare, Save save, Good good, bool syncs_lie = false,
                         size_t largest_write = SIZE_MAX) {
  Crashes count;
  for (int64_t at = 0;; ++at) {
    const Scratch scratch;
    std::filesystem::create_directories(scratch / "root");
    CrashDisk disk(scratch / "root");
    prepare(scratch / "root");
    disk.syncs_lie = syncs_lie;
    disk.largest_write = largest_write;
    disk.crash_at = disk.calls + at;
    bool returned = false;
    try {
      save(scratch / "root", returned);
    } catch (const Error&) {
    }
    const bool crashed = disk.crashed();
    replace_file_system(nullptr);
    for (int variant = 0; variant < CrashDisk::kVariants; ++variant) {
      const std::string left = scratch / ("left" + std::to_string(variant));
      std::filesystem::create_directories(left);
      disk.leave(left, variant);
      ++count.states;
      if (!good(left, returned)) ++count.lost;
    }
    if (!crashed) return count;
    ++count.points;
  }
}

bool is_whole(const RunState& s, std::initializer_list<float> values) {
  for (float value : values)
    if (s.p == std::vector<float>(s.p.size(), value) && s.m == s.p && s.v == s.p) return true;
  return false;
}

void save_1(const std::string& run) {
  save_checkpoint(run, state_of(1));
}
void save_2_and_prune(const std::string& run, bool& returned) {
  save_checkpoint(run, state_of(2));
  returned = true;
  prune_checkpoints(run, 1, {});
}
bool good_1_or_2(const std::string& run, bool returned) {
  const NewestCheckpoint newest = load_newest_checkpoint(run);
  if (!newest.damaged.empty() || !newest.state) return false;
  return newest.state->step == 2 ? is_whole(*newest.state, {2})
                                 : !returned && is_whole(*newest.state, {1});
}

TEST(Crash, AtEverySystemCallOfASave) {
  const Crashes count = crash_everywhere(save_1, save_2_and_prune, good_1_or_2);
  EXPECT_GE(count.points, 8);
  EXPECT_EQ(count.lost, 0) << "of " << count.states;
}

TEST(Crash, AtEveryPartOfASlowWrite) {
  const Crashes count = crash_everywhere(save_1, save_2_and_prune, good_1_or_2, false, 700);
  EXPECT_GE(count.points, 14);
  EXPECT_EQ(count.lost, 0) << "of " << count.states;
}

// Control: the same search must find the loss when fsync does nothing.
TEST(Crash, WithoutSyncIsFound) {
  const Crashes count = crash_everywhere(save_1, save_2_and_prune, good_1_or_2, true);
  EXPECT_GT(count.lost, 0);
}

TEST(Crash, WhenAStepIsSavedAgain) {
  auto save = [](const std::string& run, bool& returned) {
    save_checkpoint(run, state_of(1, 50, 0.5f));
    returned = true;
  };
  auto good = [](const std::string& run, bool returned) {
    const NewestCheckpoint newest = load_newest_checkpoint(run);
    if (!newest.damaged.empty() || !newest.state) return false;
    return returned ? is_whole(*newest.state, {1.5f}) : is_whole(*newest.state, {1, 1.5f});
  };
  EXPECT_EQ(crash_everywhere(save_1, save, good).lost, 0);
}

// What is published is there whole or not at all, and a damaged file that it replaces stays until
// then.
int64_t lost_publishing(bool no_hard_links, const std::string& before, bool syncs_lie = false) {
  const std::string whole(2000, 'w');
  auto prepare = [&](const std::string& root) {
    if (!before.empty()) write_file_atomic(root + "/x.h5", before);
  };
  auto save = [&](const std::string& root, bool& returned) {
    static_cast<CrashDisk&>(file_system()).no_hard_links = no_hard_links;
    const bool published =
        publish_file(root + "/x.h5", whole, [&] { return read_file(root + "/x.h5") == before; });
    EXPECT_TRUE(published);
    returned = true;
  };
  auto good = [&](const std::string& root, bool returned) {
    const std::string path = root + "/x.h5";
    const std::string now = file_exists(path) ? read_file(path) : "";
    return now == whole || (!returned && now == before);
  };
  const Crashes count = crash_everywhere(prepare, save, good, syncs_lie);
  EXPECT_GE(count.points, 6);
  return count.lost;
}

TEST(Crash, WhenAFileIsPublished) {
  for (bool no_hard_links : {false, true})
    for (const char* before : {"", "damaged"})
      EXPECT_EQ(lost_publishing(no_hard_links, before), 0) << no_hard_links << before;
  EXPECT_GT(lost_publishing(false, "", /*syncs_lie=*/true), 0);  // control
}

TEST(Crash, InTheFirstSaveOfARun) {
  auto save = [](const std::string& run, bool& returned) {
    save_checkpoint(run + "/deep/run", state_of(1));
    returned = true;
  };
  auto good = [](const std::string& run, bool returned) {
    const NewestCheckpoint newest = load_newest_checkpoint(run + "/deep/run");
    if (!newest.damaged.empty()) return false;
    return newest.state ? is_whole(*newest.state, {1}) : !returned;
  };
  EXPECT_EQ(crash_everywhere([](const std::string&) {}, save, good).lost, 0);
}

// Returns when it is on the disk.
void keep(Journal& journal, const FinishedChunk& chunk) {
  journal.add(chunk);
  journal.flush();
}

// A journal to which a second chunk is added, after one in the same file or in a new one.
int64_t lost_in_the_journal(bool same_file, size_t largest_write = SIZE_MAX,
                            bool syncs_lie = false) {
  std::unique_ptr<Journal> journal;
  auto prepare = [&](const std::string& run) {
    journal = std::make_unique<Journal>(run, "run", "a", 0);
    keep(*journal, example_chunk(1, 0));
    if (!same_file) journal = std::make_unique<Journal>(run, "run", "b", 0);
  };
  auto save = [&](const std::string&, bool& returned) {
    const std::shared_ptr<void> ends(nullptr, [&](void*) { journal.reset(); });
    keep(*journal, example_chunk(1, 1));
    returned = true;
    keep(*journal, example_chunk(1, 2));
  };
  auto good = [&](const std::string& run, bool returned) {
    std::vector<std::string> ignored;
    const auto chunks = read_journal(run, 1, &ignored);
    for (size_t i = 0; i < chunks.size(); ++i)
      if (chunks[i].chunk != int(i) || chunks[i].gradient[0] != float(i)) return false;
    return chunks.size() >= (returned ? 2u : 1u) &&
           count_chunks(run, 1) == int64_t(chunks.size()) &&
           ignored.size() <= 1;  // a record that was not finished
  };
  const Crashes count = crash_everywhere(prepare, save, good, syncs_lie, largest_write);
  EXPECT_GE(count.points, same_file ? 4 : 6);
  return count.lost;
}

TEST(Crash, WhileAChunkIsWritten) {
  for (bool same_file : {true, false}) {
    EXPECT_EQ(lost_in_the_journal(same_file), 0) << same_file;
    EXPECT_EQ(lost_in_the_journal(same_file, 70), 0) << same_file;
    EXPECT_GT(lost_in_the_journal(same_file, SIZE_MAX, /*syncs_lie=*/true), 0);  // control
  }
}

TEST(Crash, WhileTheJournalIsCleared) {
  std::unique_ptr<Journal> journal;
  auto prepare = [&](const std::string& run) {
    for (const char* token : {"a", "b"}) write_journal(run, token, {example_chunk(1, 0)});
    journal = std::make_unique<Journal>(run, "run", "c", 0);
    keep(*journal, example_chunk(1, 1));
  };
  auto save = [&](const std::string&, bool& returned) {
    const std::shared_ptr<void> ends(nullptr, [&](void*) { journal.reset(); });
    journal->checkpointed(2);
    keep(*journal, example_chunk(2, 0));
    returned = true;
    keep(*journal, example_chunk(2, 1));
  };
  auto good = [&](const std::string& run, bool returned) {
    std::vector<std::string> ignored;
    return read_journal(run, 2, &ignored).size() >= (returned ? 1u : 0u) && ignored.size() <= 1;
  };
  const Crashes count = crash_everywhere(prepare, save, good);
  EXPECT_GE(count.points, 10);
  EXPECT_EQ(count.lost, 0);
}

// One failing call, and life goes on: either the save says so, or it has worked.
TEST(Crash, EveryCallMayFailOnce) {
  for (int error : {EIO, ENOSPC, EROFS, EINTR}) {
    for (int64_t at = 0;; ++at) {
      const Scratch scratch;
      CrashDisk disk(scratch.path());
      save_1(scratch.path());
      disk.failure = error;
      const int64_t first = disk.calls;
      disk.fail_at = first + at;
      bool threw = false;
      try {
        save_checkpoint(scratch.path(), state_of(2));
      } catch (const Error&) {
        threw = true;
      }
      const bool reached = disk.calls > disk.fail_at;
      disk.fail_at = -1;
      EXPECT_TRUE(good_1_or_2(scratch.path(), !threw)) << error << " at call " << at;
      save_checkpoint(scratch.path(), state_of(2));  // the next try works
      EXPECT_TRUE(good_1_or_2(scratch.path(), true)) << error << " at call " << at;
      if (!reached) break;
    }
  }
}

TEST(Crash, FullAndReadOnlyDisksAreSaidInOneLine) {
  const Scratch scratch;
  CrashDisk disk(scratch.path());
  save_1(scratch.path());
  disk.write_failure = ENOSPC;
  expect_error(kExitDisk,
               {"disk full writing '" + checkpoint_path(scratch.path(), 2) + "'", "12 MB needed",
                "nothing saved so far is lost"},
               [&] { save_checkpoint(scratch.path(), state_of(2, 1'000'000 - 1'000)); });
  disk.write_failure = EDQUOT;
  expect_error(kExitDisk, {"quota full"}, [&] { save_checkpoint(scratch.path(), state_of(2)); });
  disk.write_failure = EROFS;
  expect_error(kExitUser, {"Read-only file system", "nothing saved so far is lost"},
               [&] { save_checkpoint(scratch.path(), state_of(2)); });
  disk.write_failure = EIO;
  expect_error(kExitDisk, {"Input/output error"},
               [&] { save_checkpoint(scratch.path(), state_of(2)); });
  EXPECT_EQ(list_folder(scratch / "checkpoints"), std::vector<std::string>{"step-000001.h5"});
}

}  // namespace
}  // namespace svfleet
