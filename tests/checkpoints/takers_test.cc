// Two takers of one folder, each stopped before any of its system calls: one gets the folder, the
// other is refused, and neither is refused because of itself.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <tuple>

#include "checkpoints/file.h"
#include "checkpoints/file_system.h"
#include "checkpoints/owner.h"
#include "checkpoints/process.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

// Takes the folder in a thread, which stops before a given one of its system calls: those that
// change a name or open a file.
class Taker {
 public:
  explicit Taker(const std::string& run) {
    thread_ = std::thread([this, run] {
      current = this;
      before_call();  // starts by run_to()
      try {
        owner = std::make_unique<Owner>(Owner::take(run, {host_name(), getpid(), "17", 1, ""}));
      } catch (const Error& error) {
        refused = error.what();
      }
      std::lock_guard lock(mutex_);
      ended_ = true;
      changed_.notify_all();
    });
  }
  // Returns when its next call is number `call`, when it has ended, or when it waits for others.
  // False when it has ended.
  bool run_to(int64_t call) {
    std::unique_lock lock(mutex_);
    limit_ = call;
    changed_.notify_all();
    changed_.wait_for(lock, std::chrono::milliseconds(30),
                      [&] { return ended_ || calls_ > limit_; });
    return !ended_;
  }
  void end() {
    run_to(INT64_MAX - 1);
    thread_.join();
  }
  void before_call() {
    std::unique_lock lock(mutex_);
    ++calls_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return calls_ <= limit_; });
  }
  static thread_local Taker* current;

  std::unique_ptr<Owner> owner;
  std::string refused;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t calls_ = 0, limit_ = 0;
  bool ended_ = false;
  std::thread thread_;
};
thread_local Taker* Taker::current = nullptr;

class TakersDisk : public FileSystem {
 public:
  TakersDisk() { replace_file_system(this); }
  ~TakersDisk() override { replace_file_system(nullptr); }
  int open(const std::string& path, int flags, int mode) override {
    before_call();
    return FileSystem::open(path, flags, mode);
  }
  int rename(const std::string& from, const std::string& to) override {
    before_call();
    return FileSystem::rename(from, to);
  }
  int link(const std::string& from, const std::string& to) override {
    before_call();
    return FileSystem::link(from, to);
  }
  int unlink(const std::string& path) override {
    before_call();
    return FileSystem::unlink(path);
  }
  int sync(int) override { return 0; }  // nothing crashes here

 private:
  static void before_call() {
    if (Taker::current) Taker::current->before_call();
  }
};

// The file of a process of this machine that is no more.
std::string left_by_the_dead(const std::string& token) {
  return R"({"format": "svfleet-owner", "version": 1, "host": ")" + host_name() +
         R"(", "pid": 4194305, "job": "17", "restarts": 1, "token": ")" + token +
         R"(", "process_start": 1, "started": "then"})";
}

// A dead owner, and the claim of a dead taker to succeed it. A comes as far as its call `a`, then B
// as far as its call `b`, then A makes `more` calls, then B ends, then A. Whether A and B have been
// stopped.
std::pair<bool, bool> meet(int64_t a, int64_t b, int64_t more) {
  const Scratch scratch;
  const std::string run = scratch.path(), file = run + "/owner.json";
  write_file_atomic(file, left_by_the_dead("dead"));
  write_file_atomic(file + ".after-dead", left_by_the_dead("died as well"));
  const TakersDisk disk;
  Taker first(run), second(run);
  const bool stopped_first = first.run_to(a), stopped_second = second.run_to(b);
  if (stopped_first) first.run_to(a + more);
  second.run_to(INT64_MAX - 1);
  first.end();
  second.end();
  const std::string at = "A before call " + std::to_string(a) + ", then after " +
                         std::to_string(more) + " more, B before " + std::to_string(b) + ": ";
  EXPECT_NE(first.owner == nullptr, second.owner == nullptr)
      << at << first.refused << "; " << second.refused;
  for (const Taker* taker : {&first, &second}) {
    if (taker->owner)
      EXPECT_NO_THROW(taker->owner->verify()) << at;
    else
      EXPECT_NE(taker->refused.find("in use by"), std::string::npos) << at << taker->refused;
  }
  return {stopped_first, stopped_second};
}

TEST(Takers, OneOfTwoGetsTheFolderWhereverTheyMeet) {
  constexpr int64_t kMost = 12;  // one that waits for the other makes calls without end
  int64_t meetings = 0;
  for (int64_t a = 0; a < kMost && !HasFailure(); ++a)
    for (int64_t b = 0; b < kMost; ++b) {
      bool first = true, second = true;
      for (int64_t more = 1; more <= 6 && first && second; ++more, ++meetings)
        std::tie(first, second) = meet(a, b, more);
      if (!first || !second) break;
    }
  EXPECT_GE(meetings, 300);
}

}  // namespace
}  // namespace svfleet
