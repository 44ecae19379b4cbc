// The log of a run that was started several times, torn and broken in places; and messages.
#include "coordinator/run/log.h"

#include <gmock/gmock.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "comm/error.h"
#include "tests/coordinator/config/files.h"
#include "tests/sanitized.h"

namespace svfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RunLogTest : public ConfigFiles {};

const nlohmann::ordered_json kNoZ = nlohmann::ordered_json::object();

// "step 2/1" of each line, in the order of the file.
std::vector<std::string> outline(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const auto r = nlohmann::json::parse(line);
    out.push_back(r["kind"].get<std::string>() + " " + r.value("name", "") + " " +
                  std::to_string(r.value("step", -1)) + "/" +
                  std::to_string(r.value("attempt", 0)));
  }
  return out;
}

TEST_F(RunLogTest, ARedoneStepIsWrittenAgainAndTheLastCounts) {
  {
    RunLog log("run");
    log.event("started", {{"ranks", 2}});
    log.step(1, {{"reward", 0.25}}, kNoZ, false);
    log.evaluation(1, "validation", {{"accuracy", 0.5}});
    log.step(2, {{"reward", 0.5}}, kNoZ, false);
  }
  {
    RunLog log("run");  // resumed after step 1
    EXPECT_EQ(log.attempt(2), 2);
    EXPECT_EQ(log.attempt(3), 1);
    log.event("resumed");
    log.step(2, {{"reward", 0.75}}, kNoZ, false);
    log.step(3, {{"reward", 1}}, kNoZ, false);
  }
  const std::string text = read_text("run/log.jsonl");
  EXPECT_THAT(outline(text),
              ElementsAre("event started -1/0", "step  1/1", "evaluation validation 1/1",
                          "step  2/1", "event resumed -1/0", "step  2/2", "step  3/1"));
  EXPECT_EQ(text.rfind("{\"kind\":\"event\",\"time\":\"", 0), 0u);  // first in each line
  EXPECT_THAT(outline(read_text("run/z.jsonl")),
              ElementsAre("z  1/1", "z  2/1", "z  2/2", "z  3/1"));

  const LastRecords last = last_records("run", 2);
  ASSERT_EQ(last.steps.size(), 2u);
  EXPECT_EQ(last.steps[0]["reward"], 0.75);
  EXPECT_EQ(last.steps[1]["step"], 3);
  EXPECT_EQ(last.steps[1]["time"].get<std::string>().size(), 24u);
  EXPECT_EQ(last.evaluation["accuracy"], 0.5);
  EXPECT_EQ(last_records("run", 100).steps.size(), 3u);
  EXPECT_THAT(broken_lines("run"), IsEmpty());
}

TEST_F(RunLogTest, ZStandsInTheLogAfterEveryTenthStepAndTheLast) {
  const nlohmann::ordered_json z = {{"w", {{"mean", 1.5}}}};
  RunLog log("run");
  for (int step = 1; step <= 23; ++step) log.step(step, {{"reward", 1}}, z, step == 23);
  std::map<int, nlohmann::json> in_log, beside;
  for (auto& record : last_records("run", 100).steps)
    if (record.contains("z")) in_log[record["step"]] = record["z"];
  std::istringstream lines(read_text("run/z.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto record = nlohmann::json::parse(line);
    EXPECT_EQ(record["kind"], "z");
    EXPECT_EQ(record["attempt"], 1);
    beside[record["step"]] = record["z"];
  }
  EXPECT_EQ(in_log.size(), 3u);
  EXPECT_EQ(beside.size(), 20u);
  for (int step = 1; step <= 23; ++step) {
    const bool here = step == 10 || step == 20 || step == 23;
    EXPECT_EQ(in_log.contains(step), here) << step;
    EXPECT_EQ((here ? in_log : beside)[step], z) << step;
  }
}

TEST_F(RunLogTest, ATornLastLineIsLeftOutAndCutOffBeforeTheNext) {
  write_text("run/log.jsonl",
             "{\"kind\":\"step\",\"step\":1,\"attempt\":1}\n{\"kind\":\"step\",\"st");
  EXPECT_EQ(last_records("run", 9).steps.size(), 1u);
  const std::string before = read_text("run/log.jsonl");
  EXPECT_THAT(broken_lines("run"), IsEmpty());
  EXPECT_EQ(read_text("run/log.jsonl"), before);  // reading changes nothing
  RunLog log("run");
  log.step(2, {}, kNoZ, false);
  EXPECT_THAT(outline(read_text("run/log.jsonl")), ElementsAre("step  1/1", "step  2/1"));
  EXPECT_THAT(broken_lines("run"), IsEmpty());
}

TEST_F(RunLogTest, ABrokenLineIsNamedAndLeftOut) {
  write_text("run/log.jsonl",
             "{\"kind\":\"step\",\"step\":1,\"attempt\":1}\n"
             "not json\n"
             "{\"kind\":\"step\",\"step\":\"two\"}\n"
             "[1]\n"
             "{\"kind\":\"step\",\"step\":3,\"attempt\":1}\n");
  write_text("run/z.jsonl", "{\"kind\":\"z\",\"step\":1,\"attempt\":[1]}\n");
  const LastRecords last = last_records("run", 9);
  ASSERT_EQ(last.steps.size(), 2u);
  EXPECT_EQ(last.steps[1]["step"], 3);
  EXPECT_THAT(
      broken_lines("run"),
      ElementsAre("log.jsonl:2: not a record, left out", "log.jsonl:3: not a record, left out",
                  "log.jsonl:4: not a record, left out", "z.jsonl:1: not a record, left out"));
}

TEST_F(RunLogTest, NoFileNoRecords) {
  EXPECT_THAT(last_records("none", 9).steps, IsEmpty());
  EXPECT_TRUE(last_records("none", 9).evaluation.is_null());
  EXPECT_TRUE(index_logs("none").attempts.empty());
}

TEST_F(RunLogTest, AttemptsAreThoseOfAllFiles) {
  {
    RunLog log("run");
    log.rollout(1, {{"reply", "a"}});
    log.rollout(1, {{"reply", "half a character \xC3"}});
    log.rollout(2, {{"reply", "lost"}});  // the log lost its line of this step in a crash
  }
  {
    RunLog log("run");
    EXPECT_EQ(log.attempt(2), 2);
    log.rollout(2, {{"reply", "c"}});
    log.step(2, {}, kNoZ, false);
  }
  EXPECT_THAT(outline(read_text("run/rollouts.jsonl")),
              ElementsAre("rollout  1/1", "rollout  1/1", "rollout  2/1", "rollout  2/2"));
  EXPECT_EQ(last_records("run", 1).steps.at(0)["attempt"], 2);
  std::filesystem::remove("run/log.jsonl");
  std::filesystem::remove("run/rollouts.jsonl");
  EXPECT_EQ(RunLog("run").attempt(2), 3);  // by z.jsonl
}

// What the index takes from a line must be what a parser of the whole finds there.
TEST_F(RunLogTest, TheIndexAgreesWithAParserOfWholeRecords) {
  RunLog log("run");
  const auto step = [&](int64_t number, double chunk_s, double save_s) {
    // Keys of these names deeper down, or text that looks like them, mean nothing.
    log.step(number,
             {{"longest_chunk_s", chunk_s},
              {"longest_held_s", 3 * chunk_s},
              {"seconds", {{"save", save_s}, {"deeper", {{"save", 1e9}, {"step", "x"}}}}},
              {"nested", {{"step", "no number"}, {"longest_chunk_s", 1e9}}},
              {"text", "\"step\":99,\"attempt\":99"},
              {"list", {{{"step", 77}}}}},
             {{"w", {{"attempt", "no number"}, {"mean", 1e9}}}}, false);
  };
  step(1, 2.5, 0.25);
  step(2, 4, 0.125);
  log.step(3, {{"longest_chunk_s", 3}, {"seconds", {{"save", 1}}}}, kNoZ, false);  // whole numbers
  double chunk_s = 0, save_s = 0;
  std::istringstream lines(read_text("run/log.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto record = nlohmann::json::parse(line);
    chunk_s = std::max(chunk_s, record["longest_chunk_s"].get<double>());
    save_s = std::max(save_s, record["seconds"]["save"].get<double>());
  }
  const LogIndex index = index_logs("run");
  EXPECT_EQ(index.longest.chunk_s, chunk_s);
  EXPECT_EQ(index.longest.save_s, save_s);
  EXPECT_EQ(longest_times("run").chunk_s, 4);
  EXPECT_EQ(longest_times("run").held_s, 12);
  EXPECT_EQ(index.attempts, (std::map<int64_t, int>{{1, 1}, {2, 1}, {3, 1}}));
  EXPECT_THAT(broken_lines("run"), IsEmpty());
}

// A log far larger than what may be held: one that is parsed into objects takes ten times its size.
TEST_F(RunLogTest, AStartHoldsNoMoreThanALine) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer needs memory of its own";
  constexpr int kSteps = 400;
  {
    RunLog log("run");
    nlohmann::ordered_json z;
    for (int i = 0; i < 560; ++i)
      z["model.layers." + std::to_string(i) + ".mlp.gate_proj.weight"] = {
          {"mean", 1.0001}, {"min", 0.99}, {"max", 1.01}, {"std", 0.001}};
    for (int step = 1; step <= kSteps; ++step) {
      log.step(step, {{"longest_chunk_s", step}}, z, /*last=*/true);
      log.rollout(step, {{"reply", std::string(20000, 'x')}});
    }
  }
  const auto bytes = std::filesystem::file_size("run/log.jsonl");
  EXPECT_GT(bytes, 10u << 20);
  const pid_t child = fork();
  if (child == 0) {
    std::ifstream before("/proc/self/statm");
    size_t pages = 0;
    before >> pages;
    const rlimit limit = {pages * 4096 + (8u << 20), pages * 4096 + (8u << 20)};
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(3);
    try {
      RunLog log("run");
      if (log.attempt(kSteps) != 2 || log.longest().chunk_s != kSteps) _exit(4);
      if (last_records("run", 5).steps.size() != 5) _exit(5);
      _exit(0);
    } catch (const std::bad_alloc&) {
      _exit(6);
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 0) << "8 MiB more were not enough";
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
  EXPECT_EQ(outline(read_text("run/rollouts.jsonl")).size(), 100u);
}

TEST_F(RunLogTest, TheLogsOwnKeysCannotBeOverwritten) {
  RunLog log("run");
  EXPECT_THROW(log.step(1, {{"step", 2}}, kNoZ, false), Error);
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
