// Collectives over 1, 2 and 4 ranks, against values worked out from the rank numbers.
#include "comm/group.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <set>
#include <thread>

#include "comm/error.h"
#include "comm/wait.h"
#include "tests/comm/world_main.h"

namespace svfleet {
namespace {

TEST(Group, SizeIsTheLaunchers) {
  EXPECT_EQ(world().size(), launch_size());
  EXPECT_EQ(world().rank(), launch_rank());
  EXPECT_FALSE(world().host().empty());
}

TEST(Group, BroadcastFromEveryRank) {
  for (int root = 0; root < world().size(); ++root) {
    const std::string truth = "from " + std::to_string(root) + std::string("\0\xff", 2);
    std::string bytes = world().rank() == root ? truth : "something longer that must disappear";
    world().broadcast(bytes, root, "short text");
    EXPECT_EQ(bytes, truth);
  }
  std::string nothing = world().rank() == 0 ? "" : "x";
  world().broadcast(nothing, 0, "empty text");
  EXPECT_EQ(nothing, "");
}

// More than one piece of 64 MiB.
TEST(Group, LongBroadcastAndGather) {
  const size_t n = (size_t{64} << 20) + 12345;
  auto pattern = [](size_t i, int rank) { return static_cast<char>(i * 31 + (i >> 16) + rank); };
  std::string bytes;
  if (world().rank() == 0) {
    bytes.resize(n);
    for (size_t i = 0; i < n; ++i) bytes[i] = pattern(i, 0);
  }
  world().broadcast(bytes, 0, "long bytes");
  ASSERT_EQ(bytes.size(), n);
  size_t wrong = 0;
  for (size_t i = 0; i < n; ++i) wrong += bytes[i] != pattern(i, 0);
  EXPECT_EQ(wrong, 0u);

  if (world().rank() != 1) bytes.resize(10 * world().rank());
  const auto all = world().gather(bytes, "some long, some short");
  if (world().rank() == 0 && world().size() > 1) {
    ASSERT_EQ(all[1].size(), n);
    for (size_t i = 0; i < n; ++i) wrong += all[1][i] != pattern(i, 0);
    EXPECT_EQ(wrong, 0u);
  }
}

TEST(Group, Gather) {
  const auto all = world().gather(std::string(world().rank(), 'a' + world().rank()), "letters");
  if (world().rank() != 0) {
    EXPECT_TRUE(all.empty());
    return;
  }
  ASSERT_EQ(static_cast<int>(all.size()), world().size());
  const std::vector<std::string> truth = {"", "b", "cc", "ddd"};
  for (int rank = 0; rank < world().size(); ++rank) EXPECT_EQ(all[rank], truth[rank]);
}

TEST(Group, Maximum) {
  const int last = world().size() - 1;
  std::vector<int32_t> values = {world().rank(), -world().rank(), INT32_MIN, 7};
  if (world().rank() == last) values[3] = INT32_MAX;
  world().all_reduce_max(values, "four maxima");
  EXPECT_EQ(values, (std::vector<int32_t>{last, 0, INT32_MIN, INT32_MAX}));
}

TEST(Group, SumOfIntegersBeyondDoubles) {
  // 2^53 + rank is not what a sum in double would give.
  std::vector<int64_t> values = {(int64_t{1} << 53) + world().rank(), -1, world().rank()};
  world().all_reduce_sum(values, "three sums");
  const int64_t n = world().size();
  EXPECT_EQ(values[0], n * (int64_t{1} << 53) + n * (n - 1) / 2);
  EXPECT_EQ(values[1], -n);
  EXPECT_EQ(values[2], n * (n - 1) / 2);
  std::vector<int64_t> none;
  world().all_reduce_sum(none, "no numbers");
}

TEST(Group, SumLongerThanOnePiece) {
  std::vector<int64_t> values((8 << 20) + 17);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<int64_t>(i) * (world().rank() + 1);
  world().all_reduce_sum(values, "long sum");
  const int64_t factor = world().size() * (world().size() + 1) / 2;
  size_t wrong = 0;
  for (size_t i = 0; i < values.size(); ++i) wrong += values[i] != static_cast<int64_t>(i) * factor;
  EXPECT_EQ(wrong, 0u);
}

TEST(Group, BarrierWaitsForTheLast) {
  const bool late = world().rank() == world().size() - 1;
  world().barrier("before");
  const auto start = std::chrono::steady_clock::now();
  if (late) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  world().barrier("after");
  const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - start;
  EXPECT_GE(waited.count(), 0.25);
}

// Messages between threads while the main threads are in collectives; none lost, none twice.
TEST(Mailbox, EveryMessageOnceWhileCollectivesRun) {
  constexpr int kMessages = 200;
  const int size = world().size(), rank = world().rank();
  std::vector<std::multiset<std::string>> got(size);
  std::thread mail([&] {
    for (int i = 0; i < kMessages; ++i)
      for (int to = 0; to < size; ++to)
        world().mailbox().send(to, 9, std::to_string(i) + std::string(i * 100, '.'));
    Deadline deadline(50);
    for (int n = 0; n < kMessages * size && !deadline.passed();) {
      int from = -1, tag = -1;
      std::string bytes;
      if (!world().mailbox().try_receive(&from, &tag, &bytes)) {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
        continue;
      }
      EXPECT_EQ(tag, 9);
      got[from].insert(bytes);
      ++n;
    }
  });
  for (int i = 0; i < 50; ++i) {
    std::vector<int64_t> values = {rank, i};
    world().all_reduce_sum(values, "beside the mail");
    EXPECT_EQ(values[1], int64_t{i} * size);
  }
  mail.join();
  std::multiset<std::string> truth;
  for (int i = 0; i < kMessages; ++i) truth.insert(std::to_string(i) + std::string(i * 100, '.'));
  for (int from = 0; from < size; ++from) EXPECT_EQ(got[from], truth);
  world().barrier("end of mail");
}

TEST(Mailbox, ChoosesByTag) {
  const int self = world().rank();
  world().mailbox().send(self, 4, "four");
  world().mailbox().send(self, 5, "five");
  int from = self, tag = 5;
  std::string bytes;
  Deadline deadline(20);
  while (!world().mailbox().try_receive(&from, &tag, &bytes)) ASSERT_FALSE(deadline.passed());
  EXPECT_EQ(bytes, "five");
  tag = 6;
  EXPECT_FALSE(world().mailbox().try_receive(&from, &tag, &bytes));
  tag = -1;
  while (!world().mailbox().try_receive(&from, &tag, &bytes)) ASSERT_FALSE(deadline.passed());
  EXPECT_EQ(bytes, "four");
  EXPECT_EQ(tag, 4);
}

}  // namespace
}  // namespace svfleet
