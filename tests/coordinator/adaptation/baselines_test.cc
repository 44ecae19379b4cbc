// What a choice of an expert is held against: known tables, and words that can be counted by hand.
#include <gmock/gmock.h>

#include <cmath>

#include "coordinator/adaptation/bag_of_words.h"
#include "coordinator/adaptation/confusion.h"
#include "coordinator/adaptation/routing.h"

namespace svfleet {
namespace {

using ::testing::ElementsAre;

TEST(Confusion, OfAKnownTable) {
  Confusion table({"a", "b", "other"});
  for (int i = 0; i < 6; ++i) table.add(0, 0);
  for (int i = 0; i < 2; ++i) table.add(0, 2);
  for (int i = 0; i < 1; ++i) table.add(1, 1);
  for (int i = 0; i < 3; ++i) table.add(1, 0);
  EXPECT_EQ(table.n(), 12);
  EXPECT_DOUBLE_EQ(table.accuracy(), 7.0 / 12);
  EXPECT_DOUBLE_EQ(table.majority(), 8.0 / 12);
  EXPECT_THAT(table.counts[1], ElementsAre(3, 1, 0));
  EXPECT_EQ(Confusion({"a"}).accuracy(), 0);
}

TEST(BagOfWords, CutsTextsIntoWords) {
  EXPECT_THAT(words_of("Add 17 and 4, Ägypten's"),
              ElementsAre("add", "0", "and", "0", ",", "Ä", "gypten", "'", "s"));
}

TEST(BagOfWords, IsNaiveBayes) {
  BagOfWords words(3);
  EXPECT_FALSE(words.knows_any());
  words.learn("add add one", 0);
  words.learn("film good", 1);
  words.learn("film bad", 1);
  // By hand, vocabulary 5: log 1 + log (2 + 1) / (3 + 5) against log 2 + log 1 / (4 + 5).
  EXPECT_EQ(words.label("add"), 0u);
  EXPECT_EQ(words.label("film"), 1u);
  EXPECT_EQ(words.label("unknown"), 1u);  // 2 / 9 against 1 / 8
  EXPECT_EQ(words.label(""), 1u);         // the more frequent one; never one without a text
}

TEST(Likeliest, TakesTheFirstOfEqualOnesAndWhatAnEmptyPromptGivesAway) {
  EXPECT_EQ(likeliest({-3, -1, -1}, {}), 1u);
  EXPECT_EQ(likeliest({-3, -1, -1}, {-5, -1, -2}), 0u);
}

}  // namespace
}  // namespace svfleet
