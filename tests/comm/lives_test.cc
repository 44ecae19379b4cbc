// Slow, stuck, silent and stopped, by a clock that the test turns: none may be taken for another.
#include "comm/lives.h"

#include <gtest/gtest.h>

#include "comm/error.h"

namespace svfleet {
namespace {

constexpr double kTimeout = 100, kLeast = 60;

// A rank that works on one chunk, and is heard of once a second.
struct Rank {
  Lives& lives;
  int rank;
  double now = 0;
  std::vector<StageClass> seen = {};
  StageCounter counter = {};
  StageClass at = {};

  void enter(StageClass next) {
    seen.push_back(at);
    at = next;
    counter.enter(next);
  }
  Sign sign() const {
    Sign sign;
    for (const StageClass& one : seen) sign.seen[size_t(one.stage)] |= uint64_t{1} << one.size;
    sign.works = {{Sign::kOutside, 0}, {7, counter.value()}};
    return sign;
  }
  void stand(double seconds) {
    for (const double end = now + seconds; now < end;) lives.heard(rank, sign(), now += 1);
  }
  bool given_up() const {
    const auto worst = lives.worst({{7, rank, now}});
    return worst && worst->over();
  }
};

struct LivesTest : testing::Test {
  Lives lives{3, kTimeout, kLeast};
  Rank one{lives, 1}, two{lives, 2};
};

constexpr StageClass kLayer{Stage::kLayer, 10}, kBigLayer{Stage::kLayer, 13},
    kToken{Stage::kToken, 0};

TEST_F(LivesTest, WhatMovesIsWaitedForWithoutLimit) {
  for (int i = 0; i < 3000; ++i) {
    one.enter(kLayer);
    one.stand(9);
    ASSERT_FALSE(one.given_up()) << "after " << one.now << " s";
  }
  EXPECT_GT(one.now, 10 * Lives::kPatience * kTimeout);
}

TEST_F(LivesTest, WhatStandsIsGivenUpAfterAMinute) {
  one.enter(kLayer);
  one.stand(2);
  one.enter(kLayer);
  one.stand(59);
  EXPECT_FALSE(one.given_up());
  one.stand(3);
  EXPECT_TRUE(one.given_up());
  const auto worst = lives.worst({{7, 1, 0}});
  EXPECT_EQ(worst->chunk, 7);
  EXPECT_EQ(worst->at, kLayer);
  EXPECT_EQ(worst->limit_s, 60);
}

TEST_F(LivesTest, SixTimesTheLongestOfItsClassOnAnyRank) {
  two.enter(kLayer);
  two.stand(50);
  two.enter(kLayer);
  two.stand(1);
  one.enter(kLayer);
  one.stand(280);
  EXPECT_FALSE(one.given_up());
  one.stand(25);
  EXPECT_TRUE(one.given_up());
}

TEST_F(LivesTest, BeforeTheFirstOfItsClassNothingCanBeExpected) {
  one.enter(kLayer);
  one.stand(1);
  one.enter(kBigLayer);  // eight times the work
  one.stand(Lives::kPatience * kTimeout - 10);
  EXPECT_FALSE(one.given_up());
  one.stand(20);
  EXPECT_TRUE(one.given_up());
}

TEST_F(LivesTest, ABriefStageCountsThoughNoSignFellIntoIt) {
  one.enter(kToken);
  one.enter(kLayer);
  one.stand(1);
  one.enter(kToken);  // seen before, never in a sign
  one.stand(65);
  EXPECT_TRUE(one.given_up());
}

TEST_F(LivesTest, ARankThatIsStoppedIsSilentAndDoesNotStand) {
  one.enter(kLayer);
  one.stand(1);
  one.enter(kLayer);
  one.stand(5);
  one.now += 90;  // SIGSTOP
  EXPECT_GT(lives.silent_s(1, one.now), 80);
  one.stand(1);
  EXPECT_FALSE(one.given_up());
  EXPECT_LT(lives.silent_s(1, one.now), 2);
  one.stand(60);
  EXPECT_TRUE(one.given_up()) << "control: the same time with signs";
}

TEST_F(LivesTest, AChunkThatTheRankDoesNotSpeakOf) {
  one.stand(10);
  EXPECT_FALSE(lives.worst({{8, 1, Lives::kPatience * kTimeout - 1}})->over());
  EXPECT_TRUE(lives.worst({{8, 1, Lives::kPatience * kTimeout + 1}})->over());
}

// Outside of chunks: a rank that loads, merges or saves.
struct Outside : LivesTest {
  double now = 0;
  uint64_t seen = 0;
  StageCounter counter = {};
  void stand(double seconds) {
    Sign sign;
    sign.seen[size_t(Stage::kDisk)] = seen;
    sign.works = {{Sign::kOutside, counter.value()}};
    for (const double end = now + seconds; now < end;) lives.heard(1, sign, now += 1);
  }
};

TEST_F(Outside, MovesWithEachStageButNotByWaiting) {
  counter.enter(stage_class(Stage::kLoad));
  stand(30);
  counter.enter(stage_class(Stage::kLoad));
  stand(20);
  EXPECT_EQ(lives.still_s(1, now), 19);
  counter.enter(stage_class(Stage::kWaiting));
  stand(20);
  EXPECT_EQ(lives.still_s(1, now), 39);
}

TEST_F(Outside, IsGivenUpAfterTheTimeoutAtLeast) {
  counter.enter(stage_class(Stage::kUnknown));
  stand(5000);
  EXPECT_FALSE(lives.outside(1)) << "nothing is known of it";
  counter.enter(stage_class(Stage::kWaiting));
  stand(5000);
  EXPECT_FALSE(lives.outside(1)) << "it waits for others, who have timeouts";
  counter.enter(stage_class(Stage::kStep));
  stand(95);
  EXPECT_FALSE(lives.outside(1)->over());
  stand(10);
  EXPECT_TRUE(lives.outside(1)->over());
}

TEST_F(Outside, IsGivenUpAsAChunkIsWhereTheStageIsKnown) {
  seen = 1;
  counter.enter(stage_class(Stage::kDisk));
  stand(55);
  EXPECT_FALSE(lives.outside(1)->over());
  stand(10);
  EXPECT_TRUE(lives.outside(1)->over());
}

// A worker of two chunks is at one of them; the other one waits.
struct TwoInHand : testing::Test {
  Lives lives{2, kTimeout, kLeast};
  StageCounter at, waiting;
  int32_t behind = 1;
  double now = 0;

  TwoInHand() {
    at.enter(kLayer);
    at.enter(kLayer);
    waiting.enter(kLayer);
    waiting.enter(kLayer);
  }
  Sign sign() const {
    Sign sign;
    sign.seen[size_t(Stage::kLayer)] = ~uint64_t{0};
    sign.works = {{Sign::kOutside, 0}, {1, at.value()}, {2, waiting.value(), behind}};
    return sign;
  }
  void stand(double seconds) {
    for (const double end = now + seconds; now < end;) lives.heard(1, sign(), now += 1);
  }
  std::optional<Still> worst() const { return lives.worst({{1, 1, now}, {2, 1, now}}); }
};

TEST_F(TwoInHand, WhatWaitsIsNotStillWhileItsWorkerMoves) {
  for (int i = 0; i < 100; ++i) {
    at.enter(kLayer);
    stand(30);
    ASSERT_FALSE(worst()->over()) << "after " << now << " s";
  }
  behind = Sign::kNothing;  // it is its turn, and its clock begins with it
  stand(50);
  EXPECT_FALSE(worst()->over());
}

TEST_F(TwoInHand, AWorkerThatHangsIsNamedByTheChunkThatItHangsIn) {
  for (int i = 0; i < 100; ++i) {
    at.enter(kLayer);
    stand(4);
  }
  stand(55);
  EXPECT_FALSE(worst()->over());
  stand(3);
  ASSERT_TRUE(worst()->over());
  EXPECT_EQ(worst()->chunk, 1);
  EXPECT_EQ(worst()->limit_s, 60);
}

// Its own progress counts: that of others is none of its own.
TEST_F(TwoInHand, WhatStandsAloneIsGivenUpThoughItsNeighbourMoves) {
  behind = Sign::kNothing;
  for (int i = 0; i < 20; ++i) {
    at.enter(kLayer);
    stand(4);
  }
  ASSERT_TRUE(worst()->over());
  EXPECT_EQ(worst()->chunk, 2);
}

// Behind one that is not there, or that waits itself, it would wait for ever.
struct Forgotten : TwoInHand, testing::WithParamInterface<int32_t> {};
INSTANTIATE_TEST_SUITE_P(Behind, Forgotten, testing::Values(7, 2));

TEST_P(Forgotten, IsGivenUp) {
  behind = GetParam();
  for (int i = 0; i < 20; ++i) {
    at.enter(kLayer);
    stand(4);
  }
  ASSERT_TRUE(worst()->over());
  EXPECT_EQ(worst()->chunk, 2);
}

TEST(Sign, SurvivesItsJourney) {
  StageCounter counter;
  counter.enter(stage_class(Stage::kEigen, 1e9));
  Sign sign;
  sign.seen[3] = 5;
  sign.works = {{Sign::kOutside, 1}, {9, counter.value(), 4}};
  const Sign back = Sign::unpack(sign.pack());
  EXPECT_EQ(back.seen, sign.seen);
  ASSERT_EQ(back.works.size(), 2u);
  EXPECT_EQ(back.works[1].chunk, 9);
  EXPECT_EQ(back.works[1].behind, 4);
  EXPECT_EQ(StageCounter::class_of(back.works[1].value), (StageClass{Stage::kEigen, 29}));
  EXPECT_THROW(Sign::unpack("short"), Error);
}

TEST(Stage, IsCountedWhereTheThreadSaysAndGoesBackAfterAnInnerOne) {
  enter(Stage::kToken);  // nobody counts
  StageCounter counter, other;
  {
    const Counted counted(&counter);
    enter(Stage::kLayer, 1000);
    const uint64_t before = counter.value();
    {
      const InStage disk(Stage::kDisk);
      EXPECT_EQ(StageCounter::class_of(counter.value()).stage, Stage::kDisk);
      const Counted elsewhere(&other);
      enter(Stage::kGram);
    }
    EXPECT_NE(counter.value(), before);
    EXPECT_EQ(StageCounter::class_of(counter.value()), StageCounter::class_of(before));
  }
  EXPECT_EQ(stage_counter(), nullptr);
  EXPECT_EQ(StageCounter::class_of(other.value()).stage, Stage::kGram);
  EXPECT_TRUE(stages_seen()[size_t(Stage::kDisk)] & 1);
  EXPECT_FALSE(stages_seen()[size_t(Stage::kEigen)]);
}

}  // namespace
}  // namespace svfleet
