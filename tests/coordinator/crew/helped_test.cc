// Threads of a crew that have nothing to do help those that have.
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <set>
#include <thread>

#include "comm/error.h"
#include "coordinator/crew/crew.h"
#include "tests/worker/model/fixtures.h"
#include "worker/kernels/team.h"

namespace svfleet {
namespace {

Config three_workers() {
  Config config;
  config.model.path = tiny_folder("tiny_llama_plain");
  config.workers = 3;
  return config;
}

// How many threads have worked at an operation of the calling thread's, which waits for others.
size_t threads_at_work() {
  std::set<std::thread::id> seen;
  std::mutex mutex;
  for (int again = 0; again < 500 && seen.size() < 2; ++again) {
    in_parts(8, team_size(1), [&](int64_t, int) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
  }
  return seen.size();
}

TEST(Helped, OnePieceOfWorkHasTheOtherWorkers) {
  Crew crew(three_workers());
  size_t threads = 0;
  crew.helped([&] { threads = threads_at_work(); });
  EXPECT_GT(threads, 1u);
  EXPECT_EQ(team_size(1), 1) << "they have ended";
  EXPECT_THROW(crew.helped([] { throw user_error("no such prompt"); }), Error);
  EXPECT_EQ(team_size(1), 1);
}

TEST(Helped, TheLastPieceHasThoseThatGetNoMore) {
  Crew crew(three_workers());
  size_t threads = 0;
  const auto work = [&](int piece) {
    if (piece == 2) threads = threads_at_work();
  };
  EXPECT_TRUE(crew.share({0, 1, 2}, "pieces", work, nullptr));
  EXPECT_GT(threads, 1u);
  EXPECT_EQ(team_size(1), 1);
  // Nobody waits for one that fails.
  const auto fails = [&](int piece) {
    if (piece == 1) throw user_error("piece 1");
  };
  EXPECT_THROW(crew.share({0, 1, 2}, "pieces", fails, nullptr), Error);
}

}  // namespace
}  // namespace svfleet
