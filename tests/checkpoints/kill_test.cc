// Processes that save a checkpoint after each step, killed at random moments: the run always has a
// good one, no older than the last that was reported as saved.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <random>

#include "checkpoints/file.h"
#include "checkpoints/file_system.h"
#include "checkpoints/run_checkpoint.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

constexpr size_t kNumbers = 100'000;  // of each of p, m and v: a save takes some milliseconds

RunState first_state() {
  RunState s;
  s.slots = {{"w", 0, static_cast<int64_t>(kNumbers)}};
  for (size_t i = 0; i < kNumbers; ++i) s.p.push_back(static_cast<float>(i % 1000));
  s.m = s.v = s.p;
  return s;
}

// A step whose result depends on the state that it starts from, so that going on from a wrong one
// shows in all later ones.
void advance(RunState& s) {
  ++s.step;
  s.position += 8;
  for (size_t i = 0; i < kNumbers; ++i) {
    s.m[i] = 0.5f * s.m[i] + static_cast<float>((i + static_cast<size_t>(s.step)) % 7);
    s.v[i] = 0.75f * s.v[i] + s.m[i] * s.m[i];
    s.p[i] += s.m[i] - 3;
  }
}

// A writer without temporary files and without fsync: what it is given under a temporary name goes
// to the final one, little by little.
class InPlace : public FileSystem {
 public:
  int open(const std::string& path, int flags, int mode) override {
    const size_t mark = path.find(".tmp-");
    if (mark == path.npos) return FileSystem::open(path, flags, mode);
    return FileSystem::open(path.substr(0, mark), (flags & ~O_EXCL) | O_TRUNC, mode);
  }
  ssize_t write(int fd, const void* data, size_t bytes) override {
    return FileSystem::write(fd, data, std::min<size_t>(bytes, 512));
  }
  int sync(int) override { return 0; }
  int rename(const std::string&, const std::string&) override { return 0; }
};

enum Word : int64_t { kBegun, kDone };
struct Message {
  int64_t word, step;
};

[[noreturn]] void save_for_ever(const std::string& run, FileSystem* disk, int pipe) {
  replace_file_system(disk);
  RunState state = *load_newest_checkpoint(run).state;
  const auto tell = [&](Word word) {
    const Message message{word, state.step};
    if (write(pipe, &message, sizeof message) != sizeof message) _exit(9);
  };
  while (true) {
    advance(state);
    tell(kBegun);
    save_checkpoint(run, state);
    tell(kDone);
    prune_checkpoints(run, 2, {});
  }
}

using Clock = std::chrono::steady_clock;

struct Kills {
  int64_t inside = 0;  // between the begin and the end of a save
  int64_t torn = 0;    // after which a checkpoint was damaged
  int64_t steps = 0;
};

// `expect_good`: every look finds the newest checkpoint whole and right.
Kills kill_often(int kills, FileSystem* disk, bool expect_good) {
  const Scratch scratch;
  RunState expected = first_state();  // advanced here, never read from the disk
  save_checkpoint(scratch.path(), expected);
  std::mt19937 random(7);
  double save_s = 0.01;  // how long the last one took
  Kills count;
  for (int k = 0; k < kills && !testing::Test::HasFailure(); ++k) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) save_for_ever(scratch.path(), disk, ends[1]);
    close(ends[1]);
    // Up to two whole saves, and a part of one, or a little more.
    int64_t begun = expected.step, done = expected.step;
    bool killed = false;
    Clock::time_point begin;
    const auto hear = [&] {
      Message message;
      if (read(ends[0], &message, sizeof message) != sizeof message) return false;
      (message.word == kBegun ? begun : done) = message.step;
      if (killed) return true;  // said long ago
      if (message.word == kBegun) begin = Clock::now();
      if (message.word == kDone)
        save_s = std::chrono::duration<double>(Clock::now() - begin).count();
      return true;
    };
    const int64_t last = expected.step + 1 + static_cast<int64_t>(random() % 3);
    while (begun < last && hear()) continue;
    const double share = 1.2 * static_cast<double>(random()) / static_cast<double>(random.max());
    usleep(static_cast<useconds_t>(1e6 * save_s * share));
    kill(child, SIGKILL);
    killed = true;
    int status;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    while (hear()) continue;
    close(ends[0]);
    count.inside += begun > done;

    const NewestCheckpoint newest = load_newest_checkpoint(scratch.path());
    count.torn += !newest.damaged.empty();
    if (expect_good) {
      EXPECT_TRUE(newest.damaged.empty()) << newest.damaged[0];
      EXPECT_TRUE(newest.state && newest.state->step >= done && newest.state->step <= begun)
          << "saved " << done << ", begun " << begun << ", found "
          << (newest.state ? newest.state->step : -1);
    }
    if (!newest.state || newest.state->step < expected.step) break;  // it has lost a good one
    while (expected.step < newest.state->step) advance(expected);
    if (expect_good) {
      EXPECT_EQ(state_hash(*newest.state), state_hash(expected)) << "step " << expected.step;
      EXPECT_EQ(newest.state->p, expected.p);
    }
    remove_stale_temporaries(scratch / "checkpoints");
    for (const std::string& name : list_folder(scratch / "checkpoints"))
      EXPECT_EQ(name.find(".tmp-"), name.npos) << name;
  }
  count.steps = expected.step;
  std::printf("%d kills, %lld of them inside a save, %lld steps, torn files after %lld kills\n",
              kills, static_cast<long long>(count.inside), static_cast<long long>(count.steps),
              static_cast<long long>(count.torn));
  return count;
}

TEST(Kill, ASaveAt200RandomMoments) {
  FileSystem real;
  const Kills count = kill_often(200, &real, true);
  EXPECT_GE(count.inside, 100);
  EXPECT_EQ(count.torn, 0);
  EXPECT_GT(count.steps, 50);
}

// Control: the same kills find the torn files of a writer that has no temporary ones.
TEST(Kill, AWriterInPlaceLeavesTornFiles) {
  InPlace disk;
  const Kills count = kill_often(100, &disk, false);
  EXPECT_GE(count.torn, 5);
}

}  // namespace
}  // namespace svfleet
