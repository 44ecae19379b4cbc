// Many processes publish under one name at the same moment: one of them wins, and all others are
// told so.
#include "checkpoints/publish.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "checkpoints/claim.h"
#include "checkpoints/file.h"
#include "checkpoints/file_system.h"
#include "checkpoints/process.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::ElementsAre;

class NoHardLinks : public FileSystem {
 public:
  int link(const std::string&, const std::string&) override { return errno = EPERM, -1; }
};

// For the control: every link is made, over whatever is there.
class Overwrites : public FileSystem {
 public:
  int link(const std::string& from, const std::string& to) override { return rename(from, to); }
};

// Runs `work(i)` in so many processes, all begun at the same moment; how many returned true.
int side_by_side(int processes, const std::function<bool(int)>& work) {
  int gate[2];
  EXPECT_EQ(pipe(gate), 0);
  std::vector<pid_t> children;
  for (int i = 0; i < processes; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      close(gate[1]);
      char byte;
      if (read(gate[0], &byte, 1) != 0) _exit(3);
      try {
        _exit(work(i) ? 1 : 0);
      } catch (const Error& error) {
        fprintf(stderr, "%s\n", error.what());
        _exit(2);
      }
    }
    children.push_back(child);
  }
  close(gate[0]);
  close(gate[1]);
  int yes = 0;
  for (pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) < 2) << status;
    yes += WEXITSTATUS(status) == 1;
  }
  return yes;
}

constexpr int kProcesses = 6, kRounds = 8;

std::string content(int process) {
  return "whole " + std::string(20'000, char('a' + process));
}

// How often not exactly one process published, and its bytes stayed.
int rounds_lost(FileSystem* disk, const std::string& before) {
  int lost = 0;
  for (int round = 0; round < kRounds; ++round) {
    const Scratch scratch;
    const std::string path = scratch / "x.h5";
    if (!before.empty()) write_file_atomic(path, before);
    const auto damaged = [&] { return !read_file(path).starts_with("whole"); };
    replace_file_system(disk);
    const int published = side_by_side(kProcesses, [&](int i) {
      if (!publish_file(path, content(i), damaged)) return false;
      write_file_atomic(scratch / "winner", content(i));
      return true;
    });
    replace_file_system(nullptr);
    lost += published != 1 || read_file(path) != read_file(scratch / "winner");
    EXPECT_THAT(list_folder(scratch.path()), ElementsAre("winner", "x.h5"));
  }
  return lost;
}

TEST(Publish, TheFirstWins) {
  FileSystem links;
  NoHardLinks none;
  EXPECT_EQ(rounds_lost(&links, ""), 0);
  EXPECT_EQ(rounds_lost(&none, ""), 0);
}

TEST(Publish, ADamagedFileIsReplacedOnce) {
  FileSystem links;
  NoHardLinks none;
  EXPECT_EQ(rounds_lost(&links, "damaged"), 0);
  EXPECT_EQ(rounds_lost(&none, "damaged"), 0);
}

TEST(Publish, AWholeFileStays) {
  NoHardLinks none;
  for (FileSystem* disk : {static_cast<FileSystem*>(nullptr), static_cast<FileSystem*>(&none)}) {
    const Scratch scratch;
    replace_file_system(disk);
    EXPECT_TRUE(publish_file(scratch / "x", "first", [] { return false; }));
    EXPECT_FALSE(publish_file(scratch / "x", "second", [] { return false; }));
    replace_file_system(nullptr);
    EXPECT_EQ(read_file(scratch / "x"), "first");
    EXPECT_THAT(list_folder(scratch.path()), ElementsAre("x"));
  }
}

// Control: where names are taken by force, the same count finds several winners.
TEST(Publish, ForceIsNoticed) {
  Overwrites disk;
  EXPECT_GT(rounds_lost(&disk, ""), 0);
}

// Adds one to a number in a file, which needs that nobody else does meanwhile.
void count_up(const std::string& path, double patience_s) {
  const Claim claim(path, patience_s);
  const int64_t now = std::stoll(read_file(path));
  claim.verify();
  write_file_atomic(path, std::to_string(now + 1));
}

int64_t counted_after(const std::string& left_behind, double patience_s,
                      const std::string& left_by_successor = "") {
  const Scratch scratch;
  const std::string path = scratch / "number";
  write_file_atomic(path, "0");
  if (!left_behind.empty()) write_file_atomic(path + ".claim", left_behind);
  if (!left_by_successor.empty())
    write_file_atomic(path + ".claim.after-" + left_behind, left_by_successor);
  side_by_side(kProcesses, [&](int) {
    for (int i = 0; i < kRounds; ++i) count_up(path, patience_s);
    return true;
  });
  EXPECT_THAT(list_folder(scratch.path()), ElementsAre("number"));
  return std::stoll(read_file(path));
}

TEST(Claim, OneAtATime) {
  EXPECT_EQ(counted_after("", 60), kProcesses * kRounds);
}

TEST(Claim, OfADeadProcessIsSucceededOnce) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  const std::string dead = host_name().substr(0, 64) + "-" + std::to_string(child) + "-5-0";
  EXPECT_EQ(counted_after(dead, 60), kProcesses * kRounds);
  EXPECT_EQ(counted_after(dead, 60, dead + "1"), kProcesses * kRounds);  // which died on the way
  EXPECT_EQ(counted_after("elsewhere-1-1-0", 2), kProcesses * kRounds);
}

TEST(Claim, OneThatWasTakenOverIsNoLongerUsed) {
  const Scratch scratch;
  const Claim claim(scratch / "x");
  claim.verify();
  write_file_atomic(scratch / "x.claim", "elsewhere-1-1-0");
  expect_error(kExitRequeue, {"x.claim", "start again"}, [&] { claim.verify(); });
  // Nor is that of a living process, however long it takes: the wait ends.
  expect_error(kExitDisk, {"x.claim", "elsewhere-1-1-0", "remove it"}, [&] {
    write_file_atomic(scratch / "x.claim.after-elsewhere-1-1-0", "elsewhere-2-2-0");
    Claim(scratch / "x", 0.05);
  });
}

}  // namespace
}  // namespace svfleet
