// What is on the screen, given a clock and a terminal of ours.
#include "coordinator/run/progress.h"

#include <gmock/gmock.h>

#include <thread>

namespace svfleet {
namespace {

using ::testing::ElementsAre;

// A terminal that knows carriage return, erase to the end of line, and newline.
struct Screen {
  std::vector<std::string> lines = {""};
  size_t column = 0;
  std::string raw;

  void write(std::string_view text) {
    raw += text;
    for (size_t i = 0; i < text.size(); ++i) {
      std::string& line = lines.back();
      if (text[i] == '\r') {
        column = 0;
      } else if (text[i] == '\n') {
        lines.emplace_back();
        column = 0;
      } else if (text.substr(i, 3) == "\x1b[K") {
        line.resize(column);
        i += 2;
      } else {
        if (line.size() <= column) line.resize(column + 1, ' ');
        line[column++] = text[i];
      }
    }
  }
};

struct Fake {
  Screen screen;
  double now = 100;
  int width = 0;

  ProgressOptions options(int64_t total) {
    ProgressOptions o;
    o.label = "train";
    o.unit = "steps";
    o.total = total;
    o.write = [this](std::string_view text) { screen.write(text); };
    o.width = [this] { return width; };
    o.clock = [this] { return now; };
    return o;
  }
};

TEST(Progress, OnATerminalOneLineIsUpdatedInPlace) {
  Fake fake;
  fake.width = 80;
  {
    Progress progress(fake.options(48));
    EXPECT_THAT(fake.screen.lines, ElementsAre("train  [....................]  0/48 steps"));
    fake.now += 10;
    progress.update(12, "accuracy 0.50");
    EXPECT_THAT(fake.screen.lines, ElementsAre("train  [#####...............]  12/48 steps  "
                                               "1.20/s  0:30 left  accuracy 0.50"));
    fake.now += 0.05;  // too soon to draw again
    progress.update(13, "x");
    EXPECT_THAT(fake.screen.lines.back(), ::testing::HasSubstr("12/48"));
    fake.now += 30 - 0.05;
    progress.update(48, "ok");  // shorter than before: nothing of the old line is left
    EXPECT_THAT(fake.screen.lines,
                ElementsAre("train  [####################]  48/48 steps  1.20/s  ok"));
  }
  EXPECT_THAT(fake.screen.lines, ElementsAre("train  48/48 steps  1.20/s  in 0:40  ok", ""));
}

TEST(Progress, FitsTheTerminal) {
  for (const int width : {10, 20, 40, 61, 100}) {
    Fake fake;
    fake.width = width;
    Progress progress(fake.options(1000000));
    fake.now += 100;
    progress.update(123456, "a note with an \xC3\xA9 that makes the line longer than the terminal");
    for (const auto& line : fake.screen.lines) {
      size_t characters = 0;
      for (const char c : line) characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
      EXPECT_LT(characters, static_cast<size_t>(width)) << line;
    }
    EXPECT_EQ(fake.screen.lines.size(), 1u);
  }
}

TEST(Progress, TimeLeftMovesWhileNothingFinishes) {
  Fake fake;
  fake.width = 100;
  Progress progress(fake.options(10));
  fake.now += 10;
  progress.update(5);
  EXPECT_THAT(fake.screen.lines.back(), ::testing::HasSubstr("0:10 left"));
  fake.now += 10;
  progress.update(5);
  EXPECT_THAT(fake.screen.lines.back(), ::testing::HasSubstr("0:20 left"));
}

TEST(Progress, ElsewhereALineNowAndThen) {
  Fake fake;
  {
    Progress progress(fake.options(1000));
    for (int64_t i = 1; i <= 1000; ++i) {
      fake.now += 0.1;  // 100 s in all: a line each 10 s, which is also each 10 %
      progress.update(i);
    }
  }
  EXPECT_EQ(fake.screen.raw.find('\r'), std::string::npos);
  EXPECT_EQ(fake.screen.raw.find('\x1b'), std::string::npos);
  EXPECT_EQ(fake.screen.lines.front(), "train  0/1000 steps");
  EXPECT_EQ(fake.screen.lines[fake.screen.lines.size() - 2],
            "train  1000/1000 steps  10/s  in 1:40");
  EXPECT_GE(fake.screen.lines.size(), 11u);
  EXPECT_LE(fake.screen.lines.size(), 14u);

  Fake quick;  // short work: first and last only
  {
    Progress progress(quick.options(100));
    for (int64_t i = 1; i <= 100; ++i) {
      quick.now += 0.005;
      progress.update(i);
    }
  }
  EXPECT_EQ(quick.screen.lines.size(), 3u);  // two and the empty one after them

  Fake slow;  // a line each 10 s although nothing moves
  Progress progress(slow.options(3));
  for (int i = 0; i < 100; ++i) {
    slow.now += 1;
    progress.update(0);
  }
  EXPECT_EQ(slow.screen.lines.size(), 12u);
}

TEST(Progress, WorkOfAnEarlierProcessIsNotItsRate) {
  Fake fake;
  ProgressOptions options = fake.options(100);
  options.before = 80;
  Progress progress(options);
  fake.now += 10;
  progress.update(90);  // 10 in 10 s
  EXPECT_EQ(fake.screen.lines[fake.screen.lines.size() - 2],
            "train  90/100 steps  1.00/s  0:10 left");
}

TEST(Progress, SlowWorkIsCountedInSecondsEach) {
  Fake fake;
  Progress progress(fake.options(4));
  fake.now += 50;
  progress.update(2);
  EXPECT_EQ(fake.screen.lines[fake.screen.lines.size() - 2],
            "train  2/4 steps  25.0 s each  0:50 left");
}

TEST(Progress, HiddenWritesNothing) {
  Fake fake;
  ProgressOptions options = fake.options(3);
  options.shown = false;
  {
    Progress progress(options);
    fake.now += 60;
    progress.update(3);
  }
  EXPECT_EQ(fake.screen.raw, "");
}

// Validation inside training: its line shows, and training's goes on afterwards.
TEST(Progress, WorkInsideOtherWorkGivesTheScreenBack) {
  Fake outer, inner;
  Progress first(outer.options(3));
  const size_t before = outer.screen.lines.size();
  {
    Progress second(inner.options(3));
    outer.now += 20;
    first.update(1);
    EXPECT_EQ(outer.screen.lines.size(), before);
    second.update(3);
  }
  EXPECT_NE(inner.screen.raw, "");
  outer.now += 20;
  first.update(2);
  EXPECT_GT(outer.screen.lines.size(), before);
}

TEST(Progress, MessagesStandAboveTheLine) {
  Fake fake;
  fake.width = 80;
  Progress progress(fake.options(2));
  print_line("a message");
  EXPECT_THAT(fake.screen.lines,
              ElementsAre("a message", "train  [....................]  0/2 steps"));
  print_line("another");
  progress.finish();
  EXPECT_THAT(fake.screen.lines,
              ElementsAre("a message", "another", "train  0/2 steps  in 0:00", ""));
}

TEST(Progress, ManyThreads) {
  Fake fake;
  fake.width = 80;
  Progress progress(fake.options(4000));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) progress.update(i);
    });
  for (auto& thread : threads) thread.join();
  progress.update(4000);
  progress.finish();
  EXPECT_THAT(fake.screen.lines[0], ::testing::HasSubstr("4000/4000 steps"));
}

TEST(TimeText, IsReadable) {
  EXPECT_EQ(time_text(0), "0:00");
  EXPECT_EQ(time_text(75.2), "1:15");
  EXPECT_EQ(time_text(3700), "1:01:40");
  EXPECT_EQ(time_text(100000), "1d 3:46:40");
  EXPECT_EQ(time_text(-5), "0:00");
  EXPECT_EQ(time_text(59.7), "1:00");
}

}  // namespace
}  // namespace svfleet
