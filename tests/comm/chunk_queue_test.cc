#include "comm/chunk_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "comm/chunk_ledger.h"
#include "comm/error.h"
#include "comm/hand.h"
#include "tests/comm/world_main.h"

namespace svfleet {
namespace {

using std::chrono::milliseconds;

std::vector<int> numbers(int n, int first = 0) {
  std::vector<int> all(n);
  std::iota(all.begin(), all.end(), first);
  return all;
}

// The chunks of all ranks, sorted, on rank 0; and how many each rank had.
std::vector<int> collect(const std::vector<int>& mine, std::vector<int>* counts) {
  std::ostringstream text;
  for (const int chunk : mine) text << chunk << ' ';
  std::vector<int> all;
  for (const std::string& theirs : world().gather(text.str(), "collect chunks")) {
    std::istringstream in(theirs);
    int n = 0;
    for (int chunk; in >> chunk; ++n) all.push_back(chunk);
    counts->push_back(n);
  }
  std::sort(all.begin(), all.end());
  return all;
}

TEST(ChunkLedger, OldRoundTakesNothingFromANewOne) {
  ChunkLedger ledger;
  ledger.start({5, 6});
  EXPECT_EQ(ledger.hand_out(0, 1), 5);
  ledger.cancel(1);
  ledger.start({7, 8});
  EXPECT_EQ(ledger.hand_out(1, 1), std::nullopt);
  ledger.finish(0, 1, 5);  // late
  ledger.cancel(1);        // late
  EXPECT_EQ(ledger.finished_count(), 0);
  EXPECT_EQ(ledger.hand_out(1, 2), 7);
  EXPECT_EQ(ledger.hand_out(0, 2), 8);
  EXPECT_EQ(ledger.hand_out(0, 2), std::nullopt);
}

TEST(ChunkLedger, KnowsWhoHoldsWhatLongestFirst) {
  ChunkLedger ledger;
  ledger.start({3, 1, 2});
  ledger.hand_out(4, 1);
  std::this_thread::sleep_for(milliseconds(20));
  ledger.hand_out(0, 1);
  const auto held = ledger.holdings();
  ASSERT_EQ(held.size(), 2u);
  EXPECT_EQ(held[0].chunk, 3);
  EXPECT_EQ(held[0].rank, 4);
  EXPECT_GE(held[0].seconds, 0.02);
  EXPECT_EQ(held[1].chunk, 1);
  EXPECT_THROW(ledger.finish(1, 1, 3), Error);  // rank 4 holds it
  EXPECT_THROW(ledger.start({9}), Error);       // the round is not over
  ledger.finish(4, 1, 3);
  EXPECT_EQ(ledger.finished_count(), 1);
}

TEST(Replicas, LeadersTakeChunksAndTheirFollowersWait) {
  const Replicas pairs{.width = 2};
  if (world().size() % 2) GTEST_SKIP() << "an odd number of ranks";
  const auto queue = make_chunk_queue(world(), 60, pairs);
  queue->start_round(numbers(20));
  std::vector<int> mine;
  const auto work = [&](int chunk) {
    mine.push_back(chunk);
    std::this_thread::sleep_for(milliseconds(2));
  };
  if (pairs.leads(world().rank())) work_through(*queue, 1, work, nullptr);
  queue->wait_until_over("chunks", nullptr);
  EXPECT_EQ(mine.empty(), world().rank() % 2 == 1);
  std::vector<int> counts;
  const std::vector<int> all = collect(mine, &counts);
  EXPECT_EQ(all, world().rank() == 0 ? numbers(20) : numbers(0));
}

TEST(ChunkLedger, RefusesAChunkTwice) {
  ChunkLedger ledger;
  EXPECT_THROW(ledger.start({1, 2, 1}), Error);
}

class ChunkQueues : public testing::TestWithParam<int> {};  // threads a rank
INSTANTIATE_TEST_SUITE_P(Threads, ChunkQueues, testing::Values(1, 3));

TEST_P(ChunkQueues, EveryChunkOnceInEveryRound) {
  auto queue = make_chunk_queue(world(), 60);
  for (int round = 0; round < 5; ++round) {
    const int n = round == 2 ? 0 : 40;  // an empty round too
    queue->start_round(world().rank() == 0 ? numbers(n, 100 * round) : std::vector<int>{});
    std::mutex mutex;
    std::vector<int> mine;
    work_through(
        *queue, GetParam(),
        [&](int chunk) {
          std::lock_guard<std::mutex> lock(mutex);
          mine.push_back(chunk);
        },
        nullptr);
    std::vector<int> counts;
    const auto all = collect(mine, &counts);
    EXPECT_EQ(all, world().rank() == 0 ? numbers(n, 100 * round) : numbers(0));
  }
}

TEST_P(ChunkQueues, EveryRankGetsWorkWhenChunksTakeTime) {
  auto queue = make_chunk_queue(world(), 60);
  const int n = 10 * world().size() * GetParam();
  queue->start_round(numbers(n));
  std::mutex mutex;
  std::vector<int> mine;
  work_through(
      *queue, GetParam(),
      [&](int chunk) {
        std::this_thread::sleep_for(milliseconds(20));
        std::lock_guard<std::mutex> lock(mutex);
        mine.push_back(chunk);
      },
      nullptr);
  std::vector<int> counts;
  const auto all = collect(mine, &counts);
  if (world().rank() != 0) return;
  EXPECT_EQ(all, numbers(n));
  for (const int count : counts) EXPECT_GE(count, 2);
}

TEST_P(ChunkQueues, CancelStopsAllRanksAndTheNextRoundIsWhole) {
  auto queue = make_chunk_queue(world(), 60);
  const int n = 100000;
  queue->start_round(numbers(n));
  std::atomic<int> done{0};
  const bool stopper = world().rank() == world().size() - 1;
  const auto start = std::chrono::steady_clock::now();
  work_through(
      *queue, GetParam(),
      [&](int) {
        std::this_thread::sleep_for(milliseconds(2));
        ++done;
      },
      [&] { return !stopper; });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
  EXPECT_LT(done, n);
  EXPECT_EQ(queue->next(), std::nullopt);

  queue->start_round(numbers(20, 7));
  std::mutex mutex;
  std::vector<int> mine;
  work_through(
      *queue, GetParam(),
      [&](int chunk) {
        std::lock_guard<std::mutex> lock(mutex);
        mine.push_back(chunk);
      },
      [] { return true; });
  std::vector<int> counts;
  const auto all = collect(mine, &counts);
  EXPECT_EQ(all, world().rank() == 0 ? numbers(20, 7) : numbers(0));
}

// The last rank works on one chunk and then may not start another: it does not, whatever the others
// do until they know.
TEST_P(ChunkQueues, NoChunkIsAskedForOnceOneMayNotStart) {
  auto queue = make_chunk_queue(world(), 60);
  const bool stopper = world().rank() == world().size() - 1;
  queue->start_round(numbers(100000));
  std::atomic<int> started{0};
  WorkRules rules{.workers = GetParam()};
  rules.hand.may_take = [&](int) { return !stopper || started == 0; };
  const auto worker = [&](Hand& hand) {
    while (const auto chunk = hand.take()) {
      ++started;
      std::this_thread::sleep_for(milliseconds(300));
      hand.finished(*chunk);
    }
  };
  work_through(*queue, worker, rules);
  if (stopper) {
    EXPECT_LE(started, GetParam());  // side by side; never a second one after the first
  }
  queue->wait_until_over("chunks", nullptr);
  EXPECT_EQ(queue->next(), std::nullopt);

  started = 0;
  queue->start_round(numbers(100), /*willing=*/!stopper);
  work_through(
      *queue, GetParam(), [&](int) { ++started; }, nullptr);
  queue->wait_until_over("chunks", nullptr);
  EXPECT_EQ(started, 0) << "of a round that one rank is not willing to work in";

  queue->start_round(numbers(20));
  std::mutex mutex;
  std::vector<int> mine, counts;
  work_through(
      *queue, GetParam(),
      [&](int chunk) {
        std::lock_guard<std::mutex> lock(mutex);
        mine.push_back(chunk);
      },
      nullptr);
  const auto all = collect(mine, &counts);
  EXPECT_EQ(all, world().rank() == 0 ? numbers(20) : numbers(0));
}

TEST_P(ChunkQueues, AnExceptionComesOutAndCancelsTheRound) {
  auto queue = make_chunk_queue(world(), 60);
  queue->start_round(numbers(10000));
  std::atomic<int> done{0};
  const bool thrower = world().rank() == world().size() - 1;
  auto work = [&](int) {
    std::this_thread::sleep_for(milliseconds(2));
    if (++done == 5 && thrower) throw std::range_error("chunk is bad");
  };
  if (thrower) {
    try {
      work_through(*queue, GetParam(), work, nullptr);
      ADD_FAILURE() << "nothing thrown";
    } catch (const std::range_error& error) {
      EXPECT_STREQ(error.what(), "chunk is bad");
    }
  } else {
    work_through(*queue, GetParam(), work, nullptr);
  }
  EXPECT_LT(done, 10000);
  world().barrier("all stopped");
}

TEST(ChunkQueue, AnExceptionOfIdleComesOut) {
  auto queue = make_chunk_queue(world(), 60);
  queue->start_round(numbers(100000));
  bool called = false, threw = false;
  try {
    work_through(
        *queue, 2, [](int) { std::this_thread::sleep_for(milliseconds(2)); },
        [&]() -> bool {
          called = true;
          throw std::range_error("interrupted");
        });
  } catch (const std::range_error&) {
    threw = true;
  }
  // A rank that is late finds the round cancelled by another's exception.
  EXPECT_EQ(threw, called);
  const std::vector<std::string> all = world().gather(threw ? "threw" : "", "who threw");
  if (world().rank() == 0) {
    EXPECT_NE(std::find(all.begin(), all.end(), "threw"), all.end());
  }
}

// A rank may cancel while one of its threads asks: what it is then given must not stay out. If it
// did, the wait would end with an Error after ten times the timeout.
TEST(ChunkQueue, ACancelThatMeetsAQuestionLeavesNothingOut) {
  auto queue = make_chunk_queue(world(), 20);
  for (int round = 0; round < 60; ++round) {
    queue->start_round(numbers(5000));
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        while (const auto chunk = queue->next()) queue->finished(*chunk);
      });
    std::this_thread::sleep_for(std::chrono::microseconds(37 * (round % 29)));
    queue->cancel_round();
    for (std::thread& thread : threads) thread.join();
    queue->wait_until_over("chunks", nullptr);
  }
}

TEST(ChunkQueue, RankZeroCountsWhatIsFinished) {
  auto queue = make_chunk_queue(world(), 60);
  queue->start_round(numbers(9));
  work_through(
      *queue, 2, [](int) {}, nullptr);
  queue->wait_until_over("chunks", nullptr);
  if (world().rank() == 0) {
    EXPECT_EQ(queue->finished_count(), 9);
    EXPECT_TRUE(queue->holdings().empty());
  }
}

}  // namespace
}  // namespace svfleet
