// Bytes among the ranks of hosts that are names alone, on 1, 2 and 4 ranks.
#include "comm/host_ranks.h"

#include <gtest/gtest.h>

#include "comm/error.h"
#include "tests/comm/world_main.h"

namespace svfleet {
namespace {

// Rank by rank; as many as there are.
std::vector<std::string> hosts(std::string letters) {
  std::vector<std::string> all;
  for (int rank = 0; rank < world().size(); ++rank)
    all.emplace_back(1, letters[size_t(rank) % letters.size()]);
  return all;
}

std::string pattern(size_t n, int rank) {
  std::string bytes(n, char('a' + rank));
  for (size_t i = 0; i < n; i += 4093) bytes[i] = char(i >> 12);
  return bytes;
}

TEST(HostRanks, AreThoseWithTheSameHost) {
  const int size = world().size(), rank = world().rank();
  const HostRanks all(world(), hosts("a"), 30), alone(world(), hosts("abcd"), 30);
  EXPECT_EQ(all.count(), size);
  EXPECT_EQ(all.place(), rank);
  EXPECT_EQ(all.any_shared(), size > 1);
  EXPECT_EQ(alone.ranks(), std::vector<int>{rank});
  EXPECT_EQ(alone.place(), 0);
  EXPECT_FALSE(alone.any_shared());
  if (size < 4) return;
  const HostRanks mixed(world(), hosts("abaa"), 30);
  EXPECT_EQ(mixed.ranks(), rank == 1 ? std::vector<int>{1} : (std::vector<int>{0, 2, 3}));
  EXPECT_EQ(mixed.place(), (std::vector<int>{0, 0, 1, 2})[size_t(rank)]);
  EXPECT_TRUE(mixed.any_shared());  // also on the one that shares nothing
}

// Short, empty, and in several pieces of 16 MiB; from each in turn, on several hosts at a time.
TEST(HostRanks, BroadcastFromEachToAllOfItsHost) {
  for (const char* letters : {"a", "ab", "abaa", "abcd"}) {
    HostRanks ranks(world(), hosts(letters), 30);
    for (const size_t n : {size_t(5), size_t(0), (size_t(17) << 20) + 7})
      for (int place = 0; place < ranks.count(); ++place) {
        const std::string truth = pattern(n, ranks.ranks()[size_t(place)]);
        std::string bytes = place == ranks.place() ? truth : "something else";
        ranks.broadcast(bytes, place, "bytes");
        EXPECT_TRUE(bytes == truth) << letters << n << place;
        EXPECT_TRUE(world().host_mail().untaken().empty());
      }
  }
  world().barrier("all is over");
}

TEST(HostRanks, NamesAHostForEachRank) {
  EXPECT_THROW(HostRanks(world(), {}, 30), Error);
  HostRanks ranks(world(), hosts("a"), 30);
  std::string bytes;
  EXPECT_THROW(ranks.broadcast(bytes, ranks.count(), "bytes"), Error);
}

}  // namespace
}  // namespace svfleet
