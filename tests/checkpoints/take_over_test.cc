// An owner that loses the run folder in the middle of a save, before each of its system calls in
// turn: what it writes afterwards reaches no file, and what it removes is put back.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <thread>

#include "checkpoints/expert.h"
#include "checkpoints/file.h"
#include "checkpoints/journal_files.h"
#include "checkpoints/own_lines.h"
#include "checkpoints/owner.h"
#include "checkpoints/process.h"
#include "checkpoints/run_checkpoint.h"
#include "tests/checkpoints/interrupted_disk.h"
#include "tests/checkpoints/journal_example.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

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
  int64_t added = 0;    // of them, those after which the old owner's own journal was another
};

enum class Take { kWhole, kWithoutShuttingOut };

// In what follows, the token of the owner whose save is interrupted.
std::string old_token;

bool is_journal_of(const std::string& token, const std::string& path) {
  return path.ends_with("-" + token + ".journal");
}

Counts take_over_everywhere(const std::function<void(const std::string&)>& save,
                            Take take = Take::kWhole, bool guarded = true) {
  Counts counts;
  for (int64_t at = 0;; ++at) {
    const Scratch scratch;
    const std::string run = scratch / "run";
    const Owner old = Owner::take(run, {"node7", 4711, "17", 0, ""});
    old_token = old.identity().token;
    save_checkpoint(run, state_of(1));
    write_journal(run, old_token, {example_chunk(1, 0)});
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
    std::string changed;
    auto after = files_of(run);
    const auto own = [&](const auto& file) {
      if (!is_journal_of(old_token, file.first)) return false;
      const auto found = before.find(file.first);
      counts.added += found == before.end() || found->second != file.second;
      before.erase(file.first);
      return true;
    };
    std::erase_if(after, own);
    for (const auto& [path, content] : before) {
      if (!after.contains(path))
        changed += " " + path + " (gone)";
      else if (after[path] != content)
        changed += " " + path;
      after.erase(path);
    }
    for (const auto& [path, content] : after) changed += " " + path + " (new)";
    counts.changed += !changed.empty();
    if (take == Take::kWhole && guarded && !changed.empty())
      ADD_FAILURE() << "before call " << at << ":" << changed;
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

// A chunk may still come to the file that carries the old owner's token, and to no other. Nobody is
// disturbed: the new owner, who reads and writes meanwhile, has all that was there before, and what
// comes late is right.
TEST(TakeOver, BeforeEverySystemCallOfAChunk) {
  for (const int rank : {0, 1}) {  // 1 begins a file
    const Counts counts = take_over_everywhere([&](const std::string& run) {
      Journal old(run, "run", old_token, rank);
      old.add(example_chunk(1, 1));
      std::shared_ptr<void> look(nullptr, [&](void*) {
        const auto next = look_at_owner(run);
        ASSERT_TRUE(next);
        if (next->who.token == old_token) return;
        Journal journal(run, "run", next->who.token, 0);
        std::vector<std::string> ignored;
        const auto chunks = journal.read(1, "z", &ignored);
        ASSERT_GE(chunks.size(), 1u);
        for (size_t i = 0; i < chunks.size(); ++i) EXPECT_EQ(chunks[i].gradient[0], float(i));
        EXPECT_EQ(ignored.size(), 0u);
      });
      old.flush();
      old.checkpointed(1);
      old.flush();
    });
    EXPECT_GE(counts.moments, rank ? 8 : 4);
    EXPECT_EQ(counts.changed, 0);
    EXPECT_GE(counts.added, 1);
    EXPECT_LT(counts.added, counts.moments);
  }
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

// The process of this test, as the owner that writes lines of its own.
OwnerIdentity this_process(int64_t restarts) {
  return {host_name(), getpid(), "17", restarts, ""};
}

ino_t inode(const std::string& path) {
  struct stat info;
  EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
  return info.st_ino;
}

struct Lines {
  int64_t moments = 0;
  int64_t completed = 0;  // of them those in which the new owner found or wrote the line
  int64_t harmed = 0;     // of them those in which the log was another afterwards
};

// Logs of one writer: they are the same files afterwards, and the line that was under way is in
// them whole or not at all, before those of the new owner.
Lines take_over_in_lines(bool shut_out) {
  Lines lines;
  for (int64_t at = 0;; ++at) {
    const Scratch scratch;
    const std::string run = scratch.path(), log = run + "/log.jsonl", z = run + "/z.jsonl";
    const Owner old = Owner::take(run, this_process(0));
    append_own_line(z, "z of one");
    append_own_line(log, "one");
    append_line(run + "/ledger.jsonl", "after-run writes here as well");
    const ino_t same_log = inode(log), same_z = inode(z), ledger = inode(run + "/ledger.jsonl");
    InterruptedDisk disk;
    disk.at = at;
    std::unique_ptr<Owner> next;
    bool other_process = false;
    std::string before;
    disk.interrupt = [&] {
      other_process = true;
      next = std::make_unique<Owner>(Owner::take(run, this_process(1)));
      if (shut_out) next->shut_out_others();
      EXPECT_TRUE(!shut_out || inode(run + "/ledger.jsonl") != ledger) << "call " << at;
      std::ofstream(log, std::ios::app) << "three, of the new owner\n";
      before = read_file(log);
      other_process = false;
    };
    try {
      const WriteGuard guard(run, [&] {
        if (!other_process) old.verify();
      });
      append_own_line(log, "two, of the old owner");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kExitRequeue) << error.what();
    }
    disk.at = -1;
    if (!next) return lines;
    ++lines.moments;
    const std::string after = read_file(log);
    lines.completed += before.starts_with("one\ntwo, of the old owner\n");
    lines.harmed += after != before;
    if (!shut_out) continue;
    EXPECT_EQ(after, before) << "call " << at;
    EXPECT_TRUE(after == "one\nthree, of the new owner\n" ||
                after == "one\ntwo, of the old owner\nthree, of the new owner\n")
        << "call " << at << ": " << after;
    EXPECT_EQ(inode(log), same_log) << "copied at call " << at;
    EXPECT_EQ(inode(z), same_z) << "copied at call " << at;
  }
}

TEST(TakeOver, BeforeEverySystemCallOfALineOfOnesOwn) {
  const Lines lines = take_over_in_lines(true);
  EXPECT_GE(lines.moments, 10);
  EXPECT_GE(lines.completed, 2);
  EXPECT_LT(lines.completed, lines.moments);
}

// Where it is not certain what the old owner may still write, its logs are replaced.
TEST(TakeOver, WithoutAKnownLastLineLogsAreReplaced) {
  const auto replaced = [](const std::function<void(const std::string& run)>& spoil) {
    const Scratch scratch;
    const std::string run = scratch.path(), log = run + "/log.jsonl";
    const Owner old = Owner::take(run, this_process(0));
    append_own_line(log, "zero");
    append_own_line(log, "one");
    spoil(run);
    const std::string text = read_file(log);
    const ino_t before = inode(log);
    const Owner next = Owner::take(run, this_process(1));
    next.shut_out_others();
    EXPECT_EQ(read_file(log), text);
    return inode(log) != before;
  };
  EXPECT_FALSE(replaced([](const std::string&) {}));  // control
  EXPECT_TRUE(replaced([](const std::string& run) { remove_file(run + "/last-line"); }));
  EXPECT_TRUE(replaced([](const std::string& run) {
    const std::string text = read_file(run + "/last-line");
    write_file_atomic(run + "/last-line", text.substr(0, text.size() - 2));  // torn
  }));
  EXPECT_TRUE(replaced([](const std::string& run) {  // by a version that knows no last line
    append_line(run + "/log.jsonl", "two");
  }));
  EXPECT_TRUE(replaced([](const std::string& run) { write_file_atomic(run + "/log.jsonl", ""); }));
  EXPECT_TRUE(replaced([](const std::string& run) {  // by the owner before
    std::string text = read_file(run + "/last-line");
    const std::string pid = "-" + std::to_string(getpid()) + "-";
    text.replace(text.find(pid), pid.size(), "-1-");
    write_file_atomic(run + "/last-line", text);
  }));
}

TEST(TakeOver, ATornLineOfOnesOwnGoes) {
  const Scratch scratch;
  const std::string log = scratch / "log.jsonl";
  append_own_line(log, "one");
  std::ofstream(log, std::ios::app) << "torn";
  append_own_line(log, "two");
  EXPECT_EQ(read_file(log), "one\ntwo\n");
  write_file_atomic(log, "only a torn line");
  append_own_line(log, "first");
  EXPECT_EQ(read_file(log), "first\n");
}

TEST(TakeOver, BeforeEverySystemCallOfARemoval) {
  const Counts counts = take_over_everywhere([](const std::string& run) {
    remove_files({checkpoint_path(run, 1), run + "/checkpoints/not there", run + "/log.jsonl"});
  });
  EXPECT_GE(counts.moments, 8);
  EXPECT_EQ(counts.changed, 0);
}

// The old owner ends: it must not take its successor's owner file along.
TEST(TakeOver, BeforeEverySystemCallOfARelease) {
  int64_t moments = 0;
  for (bool over = false; !over; ++moments) {
    const Scratch scratch;
    auto old = std::make_unique<Owner>(Owner::take(scratch.path(), {"node7", 4711, "17", 0, ""}));
    std::unique_ptr<Owner> next;
    {
      InterruptedDisk disk;
      disk.at = moments;
      disk.interrupt = [&] {
        next = std::make_unique<Owner>(Owner::take(scratch.path(), {"node8", 4712, "17", 1, ""}));
      };
      old.reset();
    }
    over = !next;
    if (next) {
      EXPECT_NO_THROW(next->verify()) << "call " << moments;
    }
    next.reset();
    EXPECT_EQ(list_folder(scratch.path()), std::vector<std::string>{}) << "call " << moments;
  }
  EXPECT_GE(moments, 6);
}

// A file that was moved away and put back is not "nobody's" in between.
TEST(TakeOver, AnOwnerFileMayBeAwayForAMoment) {
  const Scratch scratch;
  const Owner owner = Owner::take(scratch.path(), {"node7", 4711, "17", 0, ""});
  std::filesystem::rename(scratch / "owner.json", scratch / "away");
  std::thread back([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    std::filesystem::rename(scratch / "away", scratch / "owner.json");
  });
  EXPECT_NO_THROW(owner.verify());
  back.join();
}

TEST(TakeOver, APutBackFileDoesNotReplaceANewerOne) {
  const Scratch scratch;
  write_file_atomic(scratch / "x", "old");
  EXPECT_FALSE(remove_after_look(scratch / "x", scratch / "moved", [&](const std::string& moved) {
    EXPECT_EQ(read_file(moved), "old");
    EXPECT_FALSE(file_exists(scratch / "x"));
    write_file_atomic(scratch / "x", "new");
    return false;
  }));
  EXPECT_EQ(read_file(scratch / "x"), "new");
  EXPECT_FALSE(file_exists(scratch / "moved"));
  EXPECT_FALSE(remove_after_look(scratch / "y", scratch / "moved", [](const std::string&) {
    ADD_FAILURE() << "there is no such file";
    return true;
  }));
}

// A disk without hard links.
TEST(TakeOver, PutBackWithoutHardLinks) {
  class NoLinks : public FileSystem {
   public:
    NoLinks() { replace_file_system(this); }
    ~NoLinks() override { replace_file_system(nullptr); }
    int link(const std::string&, const std::string&) override { return errno = EPERM, -1; }
  } disk;
  const Scratch scratch;
  write_file_atomic(scratch / "x", "old");
  EXPECT_FALSE(remove_after_look(scratch / "x", scratch / "moved",
                                 [](const std::string&) { return false; }));
  EXPECT_EQ(read_file(scratch / "x"), "old");
}

TEST(TakeOver, NothingIsRemovedAnyMore) {
  const Scratch scratch;
  const std::string run = scratch / "run";
  const Owner old = Owner::take(run, {"node7", 4711, "17", 0, ""});
  for (int64_t step : {1, 2, 3}) save_checkpoint(run, state_of(step));
  write_journal(run, "a", {example_chunk(1, 0)});
  const WriteGuard guard(run + "/", [&] { old.verify(); });
  prune_checkpoints(run, 2, {});  // still ours
  EXPECT_FALSE(file_exists(checkpoint_path(run, 1)));
  const Owner next = Owner::take(run, {"node8", 4712, "17", 1, ""});
  const auto before = files_of(run);
  const auto refused = [&](auto change) {
    expect_error(kExitRequeue, {"process 4712 on host node8"}, change);
  };
  refused([&] { prune_checkpoints(run, 1, {}); });
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

TEST(TakeOver, WithoutShuttingOutALineOfOnesOwnIsFound) {
  EXPECT_GE(take_over_in_lines(false).harmed, 1);
}

TEST(TakeOver, WithoutGuardIsFound) {
  EXPECT_GE(take_over_everywhere(append_to_the_log, Take::kWhole, false).changed, 1);
  EXPECT_GE(take_over_everywhere(save_a_checkpoint, Take::kWhole, false).changed, 1);
}

}  // namespace
}  // namespace svfleet
