// The log of a run that was started several times, torn and broken in places; and messages.
#include "coordinator/run_log.h"

#include <gmock/gmock.h>
#include <spdlog/spdlog.h>

#include <thread>

#include "comm/error.h"
#include "tests/coordinator/config_files.h"

namespace svfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RunLogTest : public ConfigFiles {};

std::vector<std::string> outline(const std::vector<nlohmann::json>& records) {
  std::vector<std::string> out;
  for (const auto& r : records)
    out.push_back(r["kind"].get<std::string>() + " " + r.value("name", "") + " " +
                  std::to_string(r.value("step", -1)) + "/" +
                  std::to_string(r.value("attempt", 0)));
  return out;
}

TEST_F(RunLogTest, ARedoneStepIsWrittenAgainAndTheLastCounts) {
  {
    RunLog log("run");
    log.event("started", {{"ranks", 2}});
    log.step(1, {{"reward", 0.25}});
    log.evaluation(1, "validation", {{"accuracy", 0.5}});
    log.step(2, {{"reward", 0.5}});
  }
  {
    RunLog log("run");  // resumed after step 1
    EXPECT_EQ(log.attempt(2), 2);
    EXPECT_EQ(log.attempt(3), 1);
    log.event("resumed");
    log.step(2, {{"reward", 0.75}});
    log.step(3, {{"reward", 1}});
  }
  const LogRecords read = read_log("run");
  EXPECT_THAT(read.ignored, IsEmpty());
  EXPECT_THAT(outline(read.records),
              ElementsAre("event started -1/0", "step  1/1", "evaluation validation 1/1",
                          "event resumed -1/0", "step  2/2", "step  3/1"));
  EXPECT_EQ(read.records[0]["ranks"], 2);
  EXPECT_EQ(read.records[4]["reward"], 0.75);
  // Both attempts are in the file; kind and time come first in each line.
  const std::string text = read_text("run/log.jsonl");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 7);
  EXPECT_EQ(text.rfind("{\"kind\":\"event\",\"time\":\"", 0), 0u);
  EXPECT_EQ(read.records[1]["time"].get<std::string>().size(), 24u);
}

TEST_F(RunLogTest, ATornLastLineIsLeftOutAndCutOffBeforeTheNext) {
  write_text("run/log.jsonl",
             "{\"kind\":\"step\",\"step\":1,\"attempt\":1}\n{\"kind\":\"step\",\"st");
  EXPECT_THAT(outline(read_log("run").records), ElementsAre("step  1/1"));
  const std::string before = read_text("run/log.jsonl");
  read_log("run");
  EXPECT_EQ(read_text("run/log.jsonl"), before);  // reading changes nothing
  RunLog log("run");
  log.step(2, {});
  EXPECT_THAT(outline(read_log("run").records), ElementsAre("step  1/1", "step  2/1"));
  EXPECT_THAT(read_log("run").ignored, IsEmpty());
}

TEST_F(RunLogTest, ABrokenLineIsNamedAndLeftOut) {
  write_text("run/log.jsonl",
             "{\"kind\":\"step\",\"step\":1,\"attempt\":1}\n"
             "not json\n"
             "{\"kind\":\"step\",\"step\":\"two\"}\n"
             "[1]\n"
             "{\"kind\":\"step\",\"step\":3,\"attempt\":1}\n");
  const LogRecords read = read_log("run");
  EXPECT_THAT(outline(read.records), ElementsAre("step  1/1", "step  3/1"));
  EXPECT_THAT(read.ignored, ElementsAre("log.jsonl:2: not a record, left out",
                                        "log.jsonl:3: not a record, left out",
                                        "log.jsonl:4: not a record, left out"));
}

TEST_F(RunLogTest, NoFileNoRecords) {
  EXPECT_THAT(read_log("none").records, IsEmpty());
  EXPECT_THAT(read_rollouts("none").records, IsEmpty());
}

TEST_F(RunLogTest, RolloutsOfTheLastAttemptOfEachStep) {
  {
    RunLog log("run");
    log.rollout(1, {{"reply", "a"}});
    log.rollout(1, {{"reply", "half a character \xC3"}});
    log.rollout(2, {{"reply", "lost"}});  // killed before the step was written
  }
  {
    RunLog log("run");
    EXPECT_EQ(log.attempt(2), 2);
    log.rollout(2, {{"reply", "c"}});
    log.step(2, {});
  }
  const auto records = read_rollouts("run").records;
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0]["reply"], "a");
  EXPECT_EQ(records[1]["reply"], "half a character \xEF\xBF\xBD");
  EXPECT_EQ(records[2]["reply"], "c");
  EXPECT_EQ(read_log("run").records.at(0)["attempt"], 2);
}

TEST_F(RunLogTest, ManyThreadsWriteWholeLines) {
  RunLog log("run");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&log, t] {
      for (int i = 0; i < 25; ++i)
        log.rollout(t, {{"reply", std::string(1000, static_cast<char>('a' + t))}});
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(read_rollouts("run").records.size(), 100u);
  EXPECT_THAT(read_rollouts("run").ignored, IsEmpty());
}

TEST_F(RunLogTest, TheLogsOwnKeysCannotBeOverwritten) {
  RunLog log("run");
  EXPECT_THROW(log.step(1, {{"step", 2}}), Error);
}

TEST_F(RunLogTest, MessagesGoToTheScreenAndToTheFile) {
  const auto before = spdlog::default_logger();
  testing::internal::CaptureStderr();
  open_messages("run", 0);
  spdlog::info("hello {}", 1);
  spdlog::warn("careful");
  open_messages("run", 3);  // another rank: warnings only, and not into the file
  spdlog::info("not shown");
  spdlog::warn("rank speaks");
  open_messages("", 0);  // no run folder
  spdlog::info("screen only");
  spdlog::set_default_logger(before);
  const std::string screen = testing::internal::GetCapturedStderr();
  EXPECT_THAT(screen, testing::ContainsRegex("[0-9:]{8} hello 1\n[0-9:]{8} careful\n"
                                             "[0-9:]{8} rank 3 warning: rank speaks\n"
                                             "[0-9:]{8} screen only\n"));
  EXPECT_THAT(read_text("run/svfleet.log"),
              testing::MatchesRegex("[-0-9]{10} [0-9:.]{12} info: hello 1\n"
                                    "[-0-9]{10} [0-9:.]{12} warning: careful\n"));
}

}  // namespace
}  // namespace svfleet
