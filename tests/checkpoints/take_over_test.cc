// An owner that loses the run folder in the middle of a save, before each of its system calls in
// turn: what it writes afterwards reaches no file.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <map>
#include <memory>

#include "checkpoints/expert.h"
#include "checkpoints/file.h"
#include "checkpoints/file_system.h"
#include "checkpoints/journal.h"
#include "checkpoints/owner.h"
#include "checkpoints/run_checkpoint.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

// Calls `interrupt` before the system call number `at`.
class InterruptedDisk : public FileSystem {
 public:
  InterruptedDisk() { replace_file_system(this); }
  ~InterruptedDisk() override { replace_file_system(nullptr); }
  int64_t calls = 0, at = -1;
  std::function<void()> interrupt;

  int open(const std::string& path, int flags, int mode) override {
    count();
    return FileSystem::open(path, flags, mode);
  }
  ssize_t read(int fd, void* buffer, size_t bytes) override {
    count();
    return FileSystem::read(fd, buffer, bytes);
  }
  ssize_t write(int fd, const void* data, size_t bytes) override {
    count();
    return FileSystem::write(fd, data, bytes);
  }
  int truncate(int fd, off_t length) override {
    count();
    return FileSystem::truncate(fd, length);
  }
  int sync(int fd) override {
    count();
    return FileSystem::sync(fd);
  }
  int close(int fd) override {
    count();
    return FileSystem::close(fd);
  }
  int rename(const std::string& from, const std::string& to) override {
    count();
    return FileSystem::rename(from, to);
  }
  int unlink(const std::string& path) override {
    count();
    return FileSystem::unlink(path);
  }
  int mkdir(const std::string& path, int mode) override {
    count();
    return FileSystem::mkdir(path, mode);
  }

 private:
  void count() {
    if (calls++ != at) return;
    replace_file_system(nullptr);  // what happens now is another process's
    interrupt();
    replace_file_system(this);
  }
};

std::map<std::string, std::string> files_of(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    files[entry.path().string()] = entry.is_directory() ? "" : read_file(entry.path().string());
  return files;
}

RunState state_of(int64_t step) {
  RunState s;
  s.step = step;
  s.slots = {{"w", 0, 50}};
  s.p = s.m = s.v = std::vector<float>(50, static_cast<float>(step));
  return s;
}

struct Counts {
  int64_t moments = 0;  // system calls before which the folder changed hands
  int64_t refused = 0;  // of them, those after which the save said so
  int64_t changed = 0;  // of them, those after which a file was another
};

enum class Take { kWhole, kWithoutShuttingOut };

Counts take_over_everywhere(const std::function<void(const std::string&)>& save,
                            Take take = Take::kWhole, bool guarded = true) {
  Counts counts;
  for (int64_t at = 0;; ++at) {
    const Scratch scratch;
    const std::string run = scratch / "run";
    const Owner old = Owner::take(run, {"node7", 4711, "17", 0, ""});
    save_checkpoint(run, state_of(1));
    write_chunk(run, {"r", 1, 0, "z", {1}, "{}"});
    make_folder(run + "/experts");
    append_line(run + "/log.jsonl", "one");
    InterruptedDisk disk;
    disk.at = at;
    std::unique_ptr<Owner> next;
    std::map<std::string, std::string> before;
    bool other_process = false;
    disk.interrupt = [&] {
      other_process = true;
      next = std::make_unique<Owner>(Owner::take(run, {"node8", 4712, "17", 1, ""}));
      if (take == Take::kWhole) next->shut_out_others();
      // Not by append_line, which the old owner may be in.
      std::ofstream(run + "/log.jsonl", std::ios::app) << "of the new owner\n";
      before = files_of(run);
      other_process = false;
    };
    bool refused = false;
    {
      std::unique_ptr<WriteGuard> guard;
      const auto check = [&] {
        if (!other_process) old.verify();
      };
      if (guarded) guard = std::make_unique<WriteGuard>(run, check);
      try {
        save(run);
      } catch (const Error& error) {
        refused = true;
        const std::string text = error.what();
        if (guarded) {
          EXPECT_EQ(error.code(), kExitRequeue) << text;
          EXPECT_NE(text.find("process 4712 on host node8"), text.npos) << text;
        }
      }
    }
    disk.at = -1;
    if (!next) {  // the save was over before that call
      EXPECT_FALSE(refused);
      return counts;
    }
    ++counts.moments;
    counts.refused += refused;
    for (const auto& [path, content] : files_of(run)) {
      if (before.contains(path) && before[path] == content) continue;
      ++counts.changed;
      if (take == Take::kWhole && guarded) ADD_FAILURE() << path << " changed, call " << at;
      break;
    }
  }
}

void save_a_checkpoint(const std::string& run) {
  save_checkpoint(run, state_of(2));
}
void append_to_the_log(const std::string& run) {
  append_line(run + "/log.jsonl", "of the old owner");
}

TEST(TakeOver, BeforeEverySystemCallOfACheckpoint) {
  const Counts counts = take_over_everywhere(save_a_checkpoint);
  EXPECT_GE(counts.moments, 10);
  EXPECT_EQ(counts.changed, 0);
  // The sync of the folder, after the rename, cannot fail any more.
  EXPECT_GE(counts.refused, counts.moments - 4);
}

TEST(TakeOver, BeforeEverySystemCallOfAChunk) {
  const Counts counts = take_over_everywhere([](const std::string& run) {
    write_chunk(run, {"r", 1, 1, "z", {2}, "{}"});
  });
  EXPECT_GE(counts.moments, 10);
  EXPECT_EQ(counts.changed, 0);
}

TEST(TakeOver, BeforeEverySystemCallOfAnExpert) {
  const Counts counts = take_over_everywhere([](const std::string& run) {
    Expert expert;
    expert.z["w"] = {1, 2};
    save_expert(run + "/experts/best.safetensors", expert);
  });
  EXPECT_GE(counts.moments, 10);
  EXPECT_EQ(counts.changed, 0);
}

TEST(TakeOver, BeforeEverySystemCallOfALineOfTheLog) {
  const Counts counts = take_over_everywhere(append_to_the_log);
  EXPECT_GE(counts.moments, 6);
  EXPECT_EQ(counts.changed, 0);
}

TEST(TakeOver, NothingIsRemovedAnyMore) {
  const Scratch scratch;
  const std::string run = scratch / "run";
  const Owner old = Owner::take(run, {"node7", 4711, "17", 0, ""});
  for (int64_t step : {1, 2, 3}) save_checkpoint(run, state_of(step));
  write_chunk(run, {"r", 1, 0, "z", {1}, "{}"});
  const WriteGuard guard(run + "/", [&] { old.verify(); });
  prune_checkpoints(run, 2, -1);  // still ours
  EXPECT_FALSE(file_exists(checkpoint_path(run, 1)));
  const Owner next = Owner::take(run, {"node8", 4712, "17", 1, ""});
  const auto before = files_of(run);
  const auto refused = [&](auto change) {
    expect_error(kExitRequeue, {"process 4712 on host node8"}, change);
  };
  refused([&] { prune_checkpoints(run, 1, -1); });
  refused([&] { clear_chunks_before(run, 2); });
  refused([&] { remove_file(run + "/anything"); });
  refused([&] { rename_file(checkpoint_path(run, 3), checkpoint_path(run, 3) + ".damaged"); });
  refused([&] { make_folder(run + "/new"); });
  EXPECT_EQ(files_of(run), before);
  write_file_atomic(scratch / "elsewhere", "not in the run folder");
  write_file_atomic(scratch / "runner", "nor this");
}

// Controls: the same search must find the writes that a guard alone lets through, and those
// without any.
TEST(TakeOver, WithoutShuttingOutIsFound) {
  EXPECT_GE(take_over_everywhere(save_a_checkpoint, Take::kWithoutShuttingOut).changed, 1);
  EXPECT_GE(take_over_everywhere(append_to_the_log, Take::kWithoutShuttingOut).changed, 1);
}

TEST(TakeOver, WithoutGuardIsFound) {
  EXPECT_GE(take_over_everywhere(append_to_the_log, Take::kWhole, false).changed, 1);
  EXPECT_GE(take_over_everywhere(save_a_checkpoint, Take::kWhole, false).changed, 1);
}

}  // namespace
}  // namespace svfleet
