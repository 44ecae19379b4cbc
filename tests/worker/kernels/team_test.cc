// Parts of an operation by several threads: each once, whoever comes, whenever they come.
#include "worker/kernels/team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace svfleet {
namespace {

// How often each part was done by an operation of so many.
std::vector<int> times_done(int64_t parts, int most) {
  std::vector<std::atomic<int>> times(static_cast<size_t>(parts));
  in_parts(parts, most, [&](int64_t part, int) { ++times[size_t(part)]; });
  return {times.begin(), times.end()};
}

TEST(Team, DoesEachPartOnce) {
  for (const int threads : {1, 2, 5})
    for (const int64_t parts : {0, 1, 2, 7, 1000})
      for (int again = 0; again < 200; ++again)
        EXPECT_EQ(times_done(parts, team_size(threads)), std::vector<int>(size_t(parts), 1));
}

TEST(Team, MembersAreToldApart) {
  const int most = team_size(4);
  for (int again = 0; again < 200; ++again) {
    std::vector<std::atomic<int>> there(static_cast<size_t>(most));
    std::atomic<bool> alone{true};
    in_parts(64, most, [&](int64_t, int member) {
      if (there[size_t(member)]++ > 0) alone = false;
      std::this_thread::yield();
      --there[size_t(member)];
    });
    EXPECT_TRUE(alone);
  }
}

TEST(Team, HelpersCome) {
  std::set<std::thread::id> seen;
  std::mutex mutex;
  const int most = team_size(3);
  const auto start = std::chrono::steady_clock::now();
  // Parts that wait for a second thread: with one they would go on for ten seconds.
  in_parts(1000, most, [&](int64_t, int) {
    std::unique_lock lock(mutex);
    seen.insert(std::this_thread::get_id());
    if (seen.size() < 2 && std::chrono::steady_clock::now() - start < std::chrono::seconds(10)) {
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      lock.lock();
    }
  });
  EXPECT_GT(seen.size(), 1u);
}

// They are asleep by then, and are woken.
TEST(Team, HelpersComeAfterAPause) {
  team_size(2);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  std::set<std::thread::id> seen;
  std::mutex mutex;
  in_parts(200, team_size(2), [&](int64_t, int) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::lock_guard lock(mutex);
    seen.insert(std::this_thread::get_id());
  });
  EXPECT_GT(seen.size(), 1u);
}

TEST(Team, WhoIsFreeHelpsAnotherThread) {
  std::atomic<bool> over{false};
  std::thread idle([&] { help_until([&] { return over.load(); }); });
  std::thread busy([&] {
    int most = 1;  // until the other one is there
    for (int look = 0; look < 10000 && most < 2; ++look) {
      most = team_size(1);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_GE(most, 2);
    std::set<std::thread::id> seen;
    std::mutex mutex;
    in_parts(200, most, [&](int64_t, int) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
    EXPECT_TRUE(seen.count(idle.get_id()));
  });
  busy.join();
  over = true;
  look_again();
  idle.join();
}

// Several threads begin operations at the same time, come and go, and nobody's part is another's.
TEST(Team, ManyOperationsAtATime) {
  for (int round = 0; round < 10; ++round) {
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&wrong, t] {
        for (int again = 0; again < 300; ++again) {
          const int64_t parts = 3 + (again + t) % 17;
          if (times_done(parts, team_size(2)) != std::vector<int>(size_t(parts), 1)) ++wrong;
        }
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
  }
}

}  // namespace
}  // namespace svfleet
