// A disk that is slow, full or somebody else's by now, under the thread that writes.
#include "checkpoints/journal_writer.h"

#include <gmock/gmock.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "checkpoints/owner.h"
#include "tests/checkpoints/journal_example.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::ElementsAre;

// Writes wait until they are let through, or fail.
class SlowDisk : public FileSystem {
 public:
  SlowDisk() { replace_file_system(this); }
  ~SlowDisk() override { replace_file_system(nullptr); }
  ssize_t write(int fd, const void* data, size_t bytes) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_; });
    if (failure_) return errno = failure_, -1;
    return FileSystem::write(fd, data, bytes);
  }
  void let(int failure = 0) {
    std::lock_guard lock(mutex_);
    open_ = true;
    failure_ = failure;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int failure_ = 0;
};

TEST(JournalWriter, NobodyWaitsForADiskUntilMuchIsToBeWritten) {
  const Scratch scratch;
  SlowDisk disk;
  std::atomic<int> added = 0;
  {
    Journal journal(scratch.path(), "run", "a", 0);
    FinishedChunk large = example_chunk(3, 0);
    large.gradient.resize(5 << 20);  // 20 MB
    std::thread chunks([&] {
      for (; added < 6; ++added) {
        large.chunk = added;
        journal.add(large);
      }
    });
    while (added < 3) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_EQ(added, 3);  // the fourth would be beyond 64 MiB
    disk.let();
    chunks.join();
  }  // all of it is on the disk
  std::vector<std::string> ignored;
  EXPECT_EQ(read_journal(scratch.path(), 3, &ignored).size(), 6u);
}

TEST(JournalWriter, AnErrorOfTheDiskIsThrownByTheCallsAfterIt) {
  const Scratch scratch;
  write_journal(scratch.path(), "a", {example_chunk(3, 0)});
  {
    SlowDisk disk;
    disk.let(ENOSPC);
    Journal journal(scratch.path(), "run", "b", 0);
    journal.add(example_chunk(3, 1));
    for (int i = 0; i < 2; ++i)
      expect_error(kExitDisk, {"disk full writing '", "/chunks/step-000003-rank-0000-b.journal"},
                   [&] { journal.flush(); });
    expect_error(kExitDisk, {"disk full"}, [&] { journal.add(example_chunk(3, 2)); });
    expect_error(kExitDisk, {"disk full"}, [&] { journal.checkpointed(4); });
  }
  std::vector<std::string> ignored;
  EXPECT_THAT(numbers(read_journal(scratch.path(), 3, &ignored)), ElementsAre(0));
}

// Rank 0 looks before each change, others at most a second ago.
TEST(JournalWriter, LooksAtTheOwner) {
  for (const double patience_s : {0., 3600.}) {
    const Scratch scratch;
    std::atomic<int> looks = 0;
    const WriteGuard guard(
        scratch.path(), [&] { ++looks; }, patience_s);
    Journal journal(scratch.path(), "run", "a", 0);
    for (int chunk = 0; chunk < 20; ++chunk) {
      journal.add(example_chunk(3, chunk));
      journal.flush();
    }
    if (patience_s > 0)
      EXPECT_LE(looks, 2);  // the folder, the file
    else
      EXPECT_GE(looks, 20);
    const int before = looks;
    journal.checkpointed(4);
    journal.flush();
    EXPECT_GE(looks, before + 2);  // a removal is looked at twice, whoever it is
  }
}

// The whole of it: a stale writer goes on with its journal beside its successor, and the one after
// them reads what both have written.
TEST(JournalWriter, AStaleOneDoesNotTearItsSuccessorsJournal) {
  const Scratch scratch;
  const std::string run = scratch / "run";
  const Owner old = Owner::take(run, {"node7", 4711, "17", 0, ""});
  // As on another rank than 0, which may look a second later.
  const WriteGuard guard(
      run, [&] { old.verify(); }, /*append_patience_s=*/3600);
  Journal stale(run, "run", old.identity().token, 1);
  stale.add(example_chunk(1, 0));
  stale.flush();
  const std::string successors = "next";
  std::filesystem::remove(run + "/owner.json");
  const std::string path = run + "/chunks/step-000001-rank-0001-" + successors + ".journal";
  const std::string before =
      encode_frame({FrameKind::kChunk, 1, 2, 0, "run", "z", successors}, example_chunk(1, 2));
  std::ofstream(path, std::ios::binary) << before;
  stale.add(example_chunk(1, 1));
  stale.flush();
  stale.add(example_chunk(1, 3));
  stale.flush();
  EXPECT_EQ(read_file(path), before);
  std::vector<std::string> ignored;
  EXPECT_EQ(numbers(read_journal(run, 1, &ignored)), (std::vector<int>{0, 1, 2, 3}));
  EXPECT_TRUE(ignored.empty());
  // But a file it does not begin any more.
  stale.checkpointed(2);
  stale.add(example_chunk(2, 0));
  expect_error(kExitRequeue, {"nobody"}, [&] { stale.flush(); });
}

}  // namespace
}  // namespace svfleet
