// Several chunks in one worker: who gets a further one, what is told of each, and when one stands.
#include "comm/hand.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <mutex>
#include <numeric>
#include <system_error>
#include <thread>

#include "comm/chunk_ledger.h"
#include "comm/error.h"
#include "tests/comm/world_main.h"
#include "tests/sanitized.h"

namespace svfleet {
namespace {

std::vector<int> numbers(int n) {
  std::vector<int> all(n);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// How many chunks each of `workers` holds that take in turns, as many as they get.
std::vector<int> shares(int chunks, int workers) {
  ChunkLedger ledger;
  ledger.start(numbers(chunks), workers);
  std::vector<int> held(workers, 0);
  for (bool any = true; any;) {
    any = false;
    for (int worker = 0; worker < workers; ++worker)
      if (ledger.hand_out(worker, 1, held[worker])) ++held[worker], any = true;
  }
  return held;
}

TEST(ChunkLedger, NobodyHoardsWhatAnotherCouldDo) {
  EXPECT_EQ(shares(8, 1), (std::vector<int>{8}));
  EXPECT_EQ(shares(2, 2), (std::vector<int>{1, 1}));
  EXPECT_EQ(shares(1, 2), (std::vector<int>{1, 0}));
  // Who comes late has as many as who took first.
  ChunkLedger late;
  late.start(numbers(8), 2);
  int first = 0, second = 0;
  while (late.hand_out(0, 1, first, 0)) ++first;
  while (late.hand_out(0, 1, second, 1)) ++second;
  EXPECT_EQ(first, 4);
  EXPECT_EQ(second, 4);
  // What is kept back for others is told from what has been handed out, and who finishes holds
  // less.
  ChunkLedger nine;
  nine.start(numbers(9), 2);
  bool nothing_left = true;
  for (int held = 0; held < 4; ++held)
    for (int worker = 0; worker < 2; ++worker) EXPECT_TRUE(nine.hand_out(worker, 1, held));
  EXPECT_FALSE(nine.hand_out(0, 1, 4, 0, &nothing_left));
  EXPECT_FALSE(nothing_left);
  for (int chunk = 0; chunk < 8; chunk += 2) nine.finish(0, 1, chunk);
  nine.finish(1, 1, 1);
  EXPECT_FALSE(nine.hand_out(1, 1, 3)) << "rank 0 holds none by now";
  EXPECT_TRUE(nine.hand_out(0, 1, 0));
  EXPECT_FALSE(nine.hand_out(1, 1, 3, 0, &nothing_left));
  EXPECT_TRUE(nothing_left);
  // The others get their first one too when one takes all that it may before they come.
  for (int workers = 2; workers < 9; ++workers)
    for (int chunks = workers; chunks < 40; ++chunks) {
      ChunkLedger ledger;
      ledger.start(numbers(chunks), workers);
      int first = 0;
      while (ledger.hand_out(0, 1, first)) ++first;
      EXPECT_LE(first * workers, chunks) << chunks << " of " << workers;
      for (int worker = 1; worker < workers; ++worker)
        EXPECT_TRUE(ledger.hand_out(worker, 1, 0)) << chunks << " of " << workers;
    }
  // Control: a worker that does not say what it holds takes all.
  ChunkLedger ledger;
  ledger.start(numbers(2), 2);
  EXPECT_TRUE(ledger.hand_out(0, 1) && ledger.hand_out(0, 1));
  EXPECT_FALSE(ledger.hand_out(1, 1));
}

TEST(ChunkLedger, EachOfAWorkersChunksHasItsPlaceInTheBook) {
  ChunkLedger ledger;
  ledger.start(numbers(8), 2);
  for (int held = 0; held < 3; ++held) {
    ASSERT_TRUE(ledger.hand_out(1, 1, held));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const auto out = ledger.holdings();
  ASSERT_EQ(out.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(out[i].chunk, int(i));
    EXPECT_EQ(out[i].rank, 1);
  }
  EXPECT_GT(out[0].seconds, out[2].seconds);
  ledger.finish(1, 1, 1);
  EXPECT_EQ(ledger.holdings().size(), 2u);
  EXPECT_FALSE(ledger.over());
}

TEST(Hand, TakesWhileThereIsEnoughAndHandsInEachByItself) {
  auto queue = make_chunk_queue(world(), 60);
  queue->start_round(numbers(40), true, 2);
  std::atomic<int> finished{0}, most{0};
  const auto worker = [&](Hand& hand) {
    std::vector<int> mine;
    while (true) {
      while (mine.size() < 3)
        if (const auto chunk = hand.take())
          mine.push_back(*chunk);
        else
          break;
      if (mine.empty()) break;
      EXPECT_EQ(hand.size(), int(mine.size()));
      hand.at({mine.back()});
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      hand.finished(mine.back());
      mine.pop_back();
      ++finished;
    }
    for (int seen = most; seen < hand.most() && !most.compare_exchange_weak(seen, hand.most());) {
    }
  };
  work_through(*queue, worker, {.workers = 2});
  queue->wait_until_over("chunks", nullptr);
  int64_t all[1] = {finished};
  world().all_reduce_sum(all, "count");
  EXPECT_EQ(all[0], 40);
  EXPECT_LE(most, 3);
  if (world().size() == 1) {
    EXPECT_EQ(most, 3);
  }
}

TEST(Hand, AChunkGoesToAnotherWorkerWithItsPlaceInTheBook) {
  if (world().size() > 1) GTEST_SKIP() << "of one rank's workers";
  auto queue = make_chunk_queue(world(), 60);
  queue->start_round({5, 6}, true, 1);
  const Hand::Rules rules;
  Hand one(*queue, rules), other(*queue, rules);
  ASSERT_TRUE(one.take() && one.take());
  one.at({6});
  const auto behind = [&](int chunk) {
    for (const Sign::Work& work : queue->watch().sign().works)
      if (work.chunk == chunk) return work.behind;
    return -2;
  };
  EXPECT_EQ(behind(5), 6);
  Hand::Held held = one.give(5);
  EXPECT_EQ(behind(5), Sign::kNothing);  // in nobody's hands its clock runs
  other.receive(5, std::move(held));
  EXPECT_EQ(one.size(), 1);
  EXPECT_EQ(other.working_on(), std::vector<int>{5});
  EXPECT_THROW(one.finished(5), Error);
  EXPECT_EQ(queue->holdings().size(), 2u);
  other.finished(5);
  one.finished(6);
  EXPECT_EQ(behind(5), -2);
  EXPECT_EQ(queue->finished_count(), 2);
}

TEST(Hand, TwoWorkersWithTwoChunksGetOneEach) {
  if (world().size() > 1) GTEST_SKIP() << "of one rank";
  auto queue = make_chunk_queue(world(), 60);
  queue->start_round(numbers(2), true, 2);
  std::atomic<int> got{0};
  const auto worker = [&](Hand& hand) {
    EXPECT_TRUE(hand.take());
    EXPECT_FALSE(hand.take());
    for (++got; got < 2;) std::this_thread::yield();  // the other one has got its own
    hand.finished(hand.working_on().front());
    EXPECT_FALSE(hand.take());
    EXPECT_EQ(hand.most(), 1);
  };
  work_through(*queue, worker, {.workers = 2});
  EXPECT_EQ(queue->finished_count(), 2);
}

TEST(Hand, NoneBeginsAfterAStopAndWhatIsLeftEndsTheRound) {
  auto queue = make_chunk_queue(world(), 60);
  queue->start_round(numbers(1000));
  std::atomic<bool> stopped{false};
  std::atomic<int> after{0};
  WorkRules rules;
  rules.hand.may_take = [&](int) { return !stopped; };
  const auto worker = [&](Hand& hand) {
    const bool took = hand.take().has_value();
    // Where there are other ranks, one that has left already has ended the round.
    if (world().size() == 1) {
      EXPECT_TRUE(took);
    }
    hand.take();
    stopped = true;
    if (hand.take()) ++after;
  };  // and leaves what it holds
  work_through(*queue, worker, rules);
  queue->wait_until_over("chunks", nullptr);
  EXPECT_EQ(after, 0);
  EXPECT_FALSE(queue->next());
}

TEST(Hand, ANoIsAskedForAgainOnlyWithFewer) {
  if (world().size() > 1) GTEST_SKIP() << "of one rank";
  auto queue = make_chunk_queue(world(), 60);
  queue->start_round(numbers(4));
  int asked = 0;
  WorkRules rules;
  rules.hand.may_take = [&](int held) { return ++asked, held < 2; };
  const auto worker = [&](Hand& hand) {
    const int first = *hand.take();
    hand.take();
    for (int i = 0; i < 5; ++i) EXPECT_FALSE(hand.take());
    EXPECT_EQ(asked, 3);
    hand.finished(first);
    EXPECT_TRUE(hand.take());
    EXPECT_THROW(hand.finished(first), Error);
  };
  work_through(*queue, worker, rules);
}

// In a process of its own, whose memory holds the stacks of a few threads and no more.
int without_threads() {
  const auto group = make_single();
  const auto queue = make_chunk_queue(*group, 60);
  queue->start_round(numbers(2000));
  long pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlim_t limit = rlim_t(pages) * rlim_t(sysconf(_SC_PAGESIZE)) + (rlim_t(40) << 20);
  const rlimit memory{limit, limit};
  if (setrlimit(RLIMIT_AS, &memory) != 0) return 2;
  std::atomic<int> ended{0};
  const auto worker = [&](Hand& hand) {
    while (const auto chunk = hand.take()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      hand.finished(*chunk);
    }
    ++ended;
  };
  try {
    work_through(*queue, worker, {.workers = 1000});
  } catch (const std::system_error& error) {
    return ended > 0 && error.code() == std::errc::resource_unavailable_try_again ? 0 : 3;
  }
  return 4;
}

TEST(Hand, WhereNoThreadCanBeStartedThoseBeforeItAreWaitedFor) {
  if (world().size() > 1 || kSanitized) GTEST_SKIP() << "of one rank, with memory that is counted";
  const pid_t child = fork();
  if (child == 0) _exit(without_threads());
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

// What is entered counts for those that the worker is at, and for them alone.
TEST(Hand, EachChunkCountsItsOwnStages) {
  if (world().size() > 1) GTEST_SKIP() << "of one rank";
  auto queue = make_chunk_queue(world(), 60);
  queue->start_round(numbers(2));
  const auto value = [&](int chunk) {
    for (const Sign::Work& work : queue->watch().sign().works)
      if (work.chunk == chunk) return work;
    return Sign::Work{-9, 0};
  };
  const auto worker = [&](Hand& hand) {
    hand.take();
    hand.take();
    enter(Stage::kToken);
    EXPECT_EQ(value(0).value, value(1).value);
    EXPECT_EQ(value(0).behind, Sign::kNothing);
    hand.at({1});
    const uint64_t waits = value(0).value, before = value(1).value;
    enter(Stage::kBackward);
    EXPECT_EQ(value(0).value, waits);
    EXPECT_NE(value(1).value, before);
    EXPECT_EQ(value(0).behind, 1);
    EXPECT_EQ(value(1).behind, Sign::kNothing);
    hand.finished(1);  // and is at the other one again
    EXPECT_EQ(value(0).behind, Sign::kNothing);
    EXPECT_EQ(value(1).chunk, -9);
    hand.finished(0);
    EXPECT_EQ(stage_counter(), nullptr);
  };
  work_through(*queue, worker, {});
}

}  // namespace
}  // namespace svfleet
