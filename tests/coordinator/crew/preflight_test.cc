// The parts of the preflight against numbers worked out by hand, and against a group of threads
// whose clocks and sums are made wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <functional>
#include <mutex>
#include <thread>

#include "comm/error.h"
#include "coordinator/crew/disk_space.h"
#include "coordinator/crew/preflight.h"

namespace svfleet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// What ranks share; a fault may spoil what a rank receives, or what it gives.
struct Meeting {
  explicit Meeting(int size) : size(size), arrived(size) {}
  int size;
  std::barrier<> arrived;
  std::mutex mutex;
  std::vector<std::string> bytes = std::vector<std::string>(size);
  std::vector<int64_t> total;
  std::vector<int32_t> most;
  std::function<void(int rank, std::span<int64_t>)> spoil_sum;  // after the sum, by rank
  std::function<void(int rank, std::span<int32_t>)> spoil_max;
  std::function<void(int rank)> before_sum;
};

class ThreadGroup : public Group {
 public:
  ThreadGroup(Meeting& meeting, int rank) : meeting_(meeting), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return meeting_.size; }
  std::string host() const override { return "n" + std::to_string(rank_); }
  std::string name(int rank) const override {
    return std::to_string(rank) + " (host n" + std::to_string(rank) + ")";
  }
  void barrier(std::string_view) override { meeting_.arrived.arrive_and_wait(); }
  void broadcast(std::string& bytes, int root, std::string_view) override {
    if (rank_ == root) meeting_.bytes[0] = bytes;
    meeting_.arrived.arrive_and_wait();
    bytes = meeting_.bytes[0];
    meeting_.arrived.arrive_and_wait();
  }
  std::vector<std::string> gather(std::string_view bytes, std::string_view) override {
    meeting_.bytes[rank_] = bytes;
    meeting_.arrived.arrive_and_wait();
    std::vector<std::string> all;
    if (rank_ == 0) all = meeting_.bytes;
    meeting_.arrived.arrive_and_wait();
    return all;
  }
  void all_reduce_max(std::span<int32_t> values, std::string_view) override {
    reduce(values, meeting_.most, [](int32_t a, int32_t b) { return std::max(a, b); });
    if (meeting_.spoil_max) meeting_.spoil_max(rank_, values);
  }
  void all_reduce_sum(std::span<int64_t> values, std::string_view) override {
    if (meeting_.before_sum) meeting_.before_sum(rank_);
    reduce(values, meeting_.total, [](int64_t a, int64_t b) { return a + b; });
    if (meeting_.spoil_sum) meeting_.spoil_sum(rank_, values);
  }
  Watch& watch() override { throw std::logic_error("no watch"); }
  Mailbox& mailbox() override { throw std::logic_error("no mailbox"); }
  Mailbox& host_mail() override { throw std::logic_error("no mailbox"); }
  void set_step(int64_t) override {}
  int64_t step() const override { return -1; }
  [[noreturn]] void abort(int code) override { _exit(code); }

 private:
  template <class T, class Op>
  void reduce(std::span<T> values, std::vector<T>& shared, Op op) {
    {
      std::lock_guard lock(meeting_.mutex);
      if (shared.empty())
        shared.assign(values.begin(), values.end());
      else
        for (size_t i = 0; i < values.size(); ++i) shared[i] = op(shared[i], values[i]);
    }
    meeting_.arrived.arrive_and_wait();
    std::copy(shared.begin(), shared.end(), values.begin());
    meeting_.arrived.arrive_and_wait();
    if (rank_ == 0) shared.clear();
    meeting_.arrived.arrive_and_wait();
  }
  Meeting& meeting_;
  int rank_;
};

// body(group) on every rank at once.
void on_all(Meeting& meeting, const std::function<void(Group&)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < meeting.size; ++rank)
    threads.emplace_back([&, rank] {
      ThreadGroup group(meeting, rank);
      body(group);
    });
  for (std::thread& thread : threads) thread.join();
}

// The message on each rank; empty when the check passes.
std::vector<std::string> messages(Meeting& meeting) {
  std::vector<std::string> said(meeting.size);
  on_all(meeting, [&](Group& group) {
    try {
      check_sums(group, *make_host_reducer(group));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kExitRequeue);
      said[group.rank()] = error.what();
    }
  });
  return said;
}

TEST(Sums, RightOnesPass) {
  for (int ranks : {2, 3, 5}) {
    Meeting meeting(ranks);
    for (const std::string& line : messages(meeting)) EXPECT_EQ(line, "");
  }
}

TEST(Sums, OneWrongBitNamesTheRankOnAllRanks) {
  Meeting meeting(4);
  meeting.spoil_sum = [](int rank, std::span<int64_t> values) {
    if (rank == 2) values[values.size() - 1] ^= 1;
  };
  for (const std::string& line : messages(meeting)) {
    EXPECT_THAT(line, AllOf(HasSubstr("wrong on rank 2 (host n2)"), HasSubstr("bad node or link"),
                            Not(HasSubstr("rank 0")), Not(HasSubstr("\n"))));
  }
}

TEST(Sums, AWrongMaximumNamesTheRanks) {
  Meeting meeting(3);
  meeting.spoil_max = [](int rank, std::span<int32_t> values) {
    if (rank != 1) values[5] += 1;
  };
  for (const std::string& line : messages(meeting))
    EXPECT_THAT(line, HasSubstr("wrong on rank 0 (host n0), 2 (host n2):"));
}

// A transport that leaves one rank's values out is the same on all ranks, and yet seen.
TEST(Sums, AMissingRankIsSeenByAll) {
  Meeting meeting(3);
  meeting.spoil_sum = [](int, std::span<int64_t> values) {
    for (int64_t& value : values) value = value / 3 * 2;
  };
  for (const std::string& line : messages(meeting))
    EXPECT_THAT(line, HasSubstr("0 (host n0), 1 (host n1), 2 (host n2)"));
}

TEST(Sums, TheSlowestRankIsKnown) {
  Meeting meeting(3);
  meeting.before_sum = [](int rank) {
    if (rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  };
  SumCheck check;
  on_all(meeting, [&](Group& group) {
    const SumCheck mine = check_sums(group, *make_host_reducer(group));
    if (group.rank() == 0) check = mine;
  });
  EXPECT_GE(check.seconds, 0.05);
}

TEST(Clocks, ABracketSaysWhatIsCertainAndWhatIsPossible) {
  EXPECT_EQ(certain_skew_s(100.5, 100, 101), 0);
  EXPECT_EQ(certain_skew_s(97, 100, 101), -3);
  EXPECT_EQ(certain_skew_s(108, 100, 101), 7);
  EXPECT_EQ(largest_skew_s(100.25, 100, 101), 0.75);
  EXPECT_EQ(largest_skew_s(97, 100, 101), 4);
  EXPECT_EQ(largest_skew_s(108, 100, 101), 8);
}

thread_local double offset_s = 0;
double shifted_clock() {
  return 1e9 + offset_s +
         std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<std::string> clock_lines(const std::vector<double>& offsets, double* most_s) {
  Meeting meeting(int(offsets.size()));
  std::vector<std::string> lines;
  on_all(meeting, [&](Group& group) {
    offset_s = offsets[group.rank()];
    double most = 0;
    auto mine = compare_clocks(group, shifted_clock, &most);
    if (group.rank() != 0) {
      EXPECT_TRUE(mine.empty());
      return;
    }
    lines = mine;
    *most_s = most;
  });
  return lines;
}

TEST(Clocks, OnlyThoseMoreThanFiveSecondsOffAreNamed) {
  double most = -1;
  EXPECT_TRUE(clock_lines({0, 0, 0}, &most).empty());
  EXPECT_LT(most, 2);
  EXPECT_TRUE(clock_lines({0, 3, -3}, &most).empty());
  EXPECT_GE(most, 3);
  EXPECT_LT(most, 5);
  const auto lines = clock_lines({0, 20, 1, -30}, &most);
  ASSERT_EQ(lines.size(), 2);
  EXPECT_THAT(lines[0], AllOf(HasSubstr("rank 1 (host n1)"), HasSubstr("s ahead of that of rank 0"),
                              HasSubstr("(host n0)")));
  EXPECT_THAT(lines[1], AllOf(HasSubstr("rank 3 (host n3)"), HasSubstr("s behind that of rank 0")));
  EXPECT_GE(most, 30);
  EXPECT_LT(most, 33);
}

// 1000 numbers, 10 matrices, no text: a checkpoint is 12000 + 24576 + 2000 = 38576 bytes, a chunk
// 4000 + 8192 = 12192, an expert 4000 + 2000 = 6000.
WritingPlan small_plan() {
  WritingPlan plan;
  plan.parameters = 1000;
  plan.matrices = 10;
  plan.steps_left = 100;
  plan.fresh = true;
  plan.keep_checkpoints = 3;
  plan.checkpoint_every = 1;
  plan.chunks_per_step = 4;
  return plan;
}

TEST(Disk, ANewRunNeedsRoomForAllOfItsFiles) {
  EXPECT_EQ(run_needs(small_plan(), {}), 7 * 38576 + 4 * 12192 + 3 * 6000);
}

TEST(Disk, WhatIsThereIsNotNeededAgain) {
  WritingPlan plan = small_plan();
  plan.fresh = false;
  EXPECT_EQ(run_needs(plan, {3, 1, 1}), 2 * 38576 + 3 * 12192 + 2 * 6000);
  // The new checkpoint is written before an old one is removed.
  EXPECT_EQ(run_needs(plan, {50, 4, 3}), 38576 + 6000);
}

TEST(Disk, ShortRunsNeedLess) {
  WritingPlan plan = small_plan();
  plan.steps_left = 1;
  EXPECT_EQ(run_needs(plan, {}), 2 * 38576 + 4 * 12192 + 3 * 6000);
  plan.fresh = false;
  EXPECT_EQ(run_needs(plan, {}), 38576 + 4 * 12192 + 3 * 6000);
  plan.steps_left = 0;
  EXPECT_EQ(run_needs(plan, {}), 0);
}

TEST(Disk, TheJournalGrowsUntilTheNextCheckpoint) {
  WritingPlan plan = small_plan();
  plan.checkpoint_every = 5;
  EXPECT_EQ(run_needs(plan, {}), 7 * 38576 + 20 * 12192 + 3 * 6000);
  plan.steps_left = 2;
  EXPECT_EQ(run_needs(plan, {}), 3 * 38576 + 8 * 12192 + 3 * 6000);
}

TEST(Disk, TextCountsUpToALimit) {
  WritingPlan plan = small_plan();
  const uint64_t silent = run_needs(plan, {});
  plan.text_per_step = 1000;
  EXPECT_EQ(run_needs(plan, {}), silent + 100 * 1000);
  plan.text_per_step = 1 << 20;
  EXPECT_EQ(run_needs(plan, {}), silent + (16 << 20));
}

TEST(Disk, LargeModelsDoNotOverflow) {
  WritingPlan plan = small_plan();
  plan.parameters = int64_t{40} << 20;  // 70B, all matrices
  EXPECT_GT(run_needs(plan, {}), 5 * 12 * (uint64_t{40} << 20));
}

TEST(Disk, FactorsHaveQOnTheirSide) {
  Target wide, tall, thin;
  wide.rows = 100, wide.cols = 300, wide.form = Form::kLeft;
  tall.rows = 300, tall.cols = 50, tall.form = Form::kRight;
  thin.rows = 100, thin.cols = 300, thin.form = Form::kRight;
  EXPECT_EQ(store_needs({wide, tall}, 4), (100 * 100 + 50 * 50) * 4 + 8 * (100 + 50) + 2 * 8192);
  EXPECT_EQ(store_needs({wide}, 2), 100 * 100 * 2 + 800 + 8192);
  EXPECT_EQ(store_needs({thin}, 2), 300 * 100 * 2 + 800 + 8192);
  EXPECT_EQ(store_needs({}, 4), 0);
}

TEST(Disk, TheLineSaysHowMuchAndWhere) {
  EXPECT_EQ(shortage("run folder", "/d/run", 100, 100, "n1"), "");
  EXPECT_THAT(shortage("run folder", "/d/run", 300 << 10, 2 << 10, "n1"),
              AllOf(HasSubstr("300 KiB"), HasSubstr("2 KiB are free")));
  const std::string line = shortage("run folder", "/d/run", uint64_t{3} << 30, 512 << 20, "n1");
  EXPECT_THAT(line, AllOf(HasSubstr("run folder"), HasSubstr("3.0 GiB"), HasSubstr("'/d/run'"),
                          HasSubstr("512.0 MiB are free"), HasSubstr("host n1"),
                          HasSubstr("free space and start again"), Not(HasSubstr("\n"))));
}

}  // namespace
}  // namespace svfleet
