// Parts of an operation by several threads: each once, whoever comes, whenever they come.
#include "worker/kernels/team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
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

// Who works at an operation of `most`, until `enough`; or until ten seconds have passed, on a
// machine that gives no thread of ours its time.
std::set<std::thread::id> at_work(
    int most, const std::function<bool(const std::set<std::thread::id>&)>& enough) {
  std::set<std::thread::id> seen;
  std::mutex mutex;
  for (int again = 0; again < 100 && !enough(seen); ++again)
    in_parts(100, most, [&](int64_t, int) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
  return seen;
}

TEST(Team, HelpersCome) {
  const auto several = [](const auto& seen) { return seen.size() > 1; };
  EXPECT_TRUE(several(at_work(team_size(3), several)));
}

// They are asleep by then, and are woken.
TEST(Team, HelpersComeAfterAPause) {
  team_size(2);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const auto several = [](const auto& seen) { return seen.size() > 1; };
  EXPECT_TRUE(several(at_work(team_size(2), several)));
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
    const auto idle_is = [&](const auto& seen) { return seen.contains(idle.get_id()); };
    EXPECT_TRUE(idle_is(at_work(most, idle_is)));
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
