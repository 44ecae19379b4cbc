// What is told is written in order by another thread; whoever computes does not wait for it, and
// whoever must know waits with a limit.
#include "coordinator/run/scribe.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>

#include "comm/clock.h"
#include "comm/stage.h"

namespace svfleet {
namespace {

TEST(Scribe, WritesInOrderAndAtTheEndAll) {
  std::string written;
  {
    Scribe scribe(4);
    for (char c = 'a'; c <= 'z'; ++c) scribe.post([&written, c] { written += c; });
    EXPECT_TRUE(scribe.settle(10));
    EXPECT_EQ(written, "abcdefghijklmnopqrstuvwxyz");
    scribe.post([&] { written += '!'; });
  }
  EXPECT_EQ(written.back(), '!');
}

TEST(Scribe, NobodyWaitsForASlowDisk) {
  std::atomic<bool> go{false};
  Scribe scribe(3);
  const double start = steady_clock_s();
  scribe.post([&] { go.wait(false); });
  for (int i = 0; i < 3; ++i) scribe.post([] {});
  EXPECT_LT(steady_clock_s() - start, 0.5);
  EXPECT_FALSE(scribe.settle(0.05));  // control: it is not written
  go = true;
  go.notify_all();
  EXPECT_TRUE(scribe.settle(10));
}

TEST(Scribe, AFailureIsThrownOnceWhereItIsAskedFor) {
  Scribe scribe;
  scribe.post([] { throw std::runtime_error("full"); });
  EXPECT_THROW(scribe.settle(10), std::runtime_error);
  EXPECT_TRUE(scribe.settle(10));
  scribe.post([] { throw std::runtime_error("full"); });
  EXPECT_THROW(
      for (int i = 0; i < 1000; ++i) {
        scribe.post([] {});
        scribe.settle(10);
      },
      std::runtime_error);
}

TEST(Scribe, WhoeverWaitsMovesWhileSomethingIsWritten) {
  StageCounter counter;
  const Counted counted(&counter);
  Scribe scribe;
  std::atomic<int> turn{0};
  for (int i = 0; i < 5; ++i)
    scribe.post([&turn, i] {
      while (turn < i) turn.wait(turn);
      const double start = steady_clock_s();
      while (steady_clock_s() - start < 0.02) {
      }
      turn = i + 1;
      turn.notify_all();
    });
  const uint64_t before = counter.value() >> 16;
  EXPECT_TRUE(scribe.settle(10));
  EXPECT_GT((counter.value() >> 16) - before, 2u);  // more than entering and leaving the wait
}

}  // namespace
}  // namespace svfleet
