// The books of runs told by hand: killed, preempted, hung, redone. Every second is somewhere, once.
#include "coordinator/run/account.h"

#include <gmock/gmock.h>

#include <cmath>
#include <thread>

#include "comm/clock.h"
#include "comm/error.h"
#include "coordinator/run/pulse.h"
#include "coordinator/run/stragglers.h"
#include "tests/coordinator/config/files.h"

namespace svfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class LedgerTest : public ConfigFiles {
 protected:
  Account account(const std::string& lines, double sign_s = 0) {
    write_text("run/ledger.jsonl", lines);
    return read_account("run", sign_s);
  }
};

// Only what is not zero.
std::map<std::string, double> spent(const Account& account) {
  std::map<std::string, double> out;
  for (const auto& [on, s] : account.seconds)
    if (std::abs(s) > 1e-9) out[on] = std::round(s * 1e6) / 1e6;
  return out;
}

using Seconds = std::map<std::string, double>;

TEST_F(LedgerTest, StartsInOneAllocationAreStartsAndNotWaited) {
  const Account one = account(
      R"({"kind":"start","time":11,"began":10,"job":"7","restarts":0,"ranks":3,"slots":3}
{"kind":"spent","time":21,"step":1,"seconds":{"generating":10}}
{"kind":"end","time":21,"code":75,"reason":"a GPU","hosts":["n2"],"place":"step 1, chunk 2"}
{"kind":"job_end","time":22,"job":"7","restarts":0,"start":0,"again":true,"message":"again"}
{"kind":"start","time":25,"began":24,"job":"7","restarts":0,"start":1,"ranks":2,"slots":2}
{"kind":"job_end","time":25,"job":"7","restarts":0,"start":0,"again":false,"message":"late"}
{"kind":"spent","time":35,"step":2,"seconds":{"generating":10}}
{"kind":"end","time":35,"code":0,"reason":"finished"})");
  ASSERT_EQ(one.attempts.size(), 2u);
  EXPECT_THAT(one.attempts[0].blame.hosts, ElementsAre("n2"));
  EXPECT_EQ(one.attempts[0].blame.place, "step 1, chunk 2");
  EXPECT_EQ(one.attempts[1].attempt.start, 1);
  EXPECT_THAT(one.attempts[1].blame.hosts, IsEmpty());
  EXPECT_EQ(one.attempts[1].reason, "finished");
  EXPECT_EQ(spent(one).count("queued"), 0u);
  EXPECT_EQ(one.total_s, 25);
}

TEST_F(LedgerTest, ARunThatNothingDisturbs) {
  const Account a = account(
      R"({"kind":"start","time":102,"began":100,"job":"","ranks":2,"slots":4,"hosts":["a","b"]}
{"kind":"spent","time":105,"seconds":{"loading":3}}
{"kind":"resumed","time":105,"step":0}
{"kind":"first_chunk","time":106,"after_s":6,"load_s":3}
{"kind":"spent","time":115,"step":1,"seconds":{"generating":6,"gradient":3,"idle":1}}
{"kind":"spent","time":116,"seconds":{"saving":1}}
{"kind":"end","time":117,"code":0,"reason":"finished"}
)");
  EXPECT_EQ(spent(a), (Seconds{{"set_up", 3},
                               {"loading", 3},
                               {"generating", 6},
                               {"gradient", 3},
                               {"idle", 1},
                               {"saving", 1}}));
  EXPECT_DOUBLE_EQ(a.total_s, 17);
  EXPECT_DOUBLE_EQ(a.goodput, 10.0 / 17);
  ASSERT_EQ(a.attempts.size(), 1u);
  EXPECT_EQ(a.attempts[0].first_chunk_s, 6);
  EXPECT_EQ(a.attempts[0].load_s, 3);
  EXPECT_EQ(a.attempts[0].last_step, 1);
  EXPECT_THAT(a.attempts[0].attempt.hosts, ElementsAre("a", "b"));
  EXPECT_FALSE(a.running);
  EXPECT_FALSE(a.waits);
}

// Submitted, killed in a step with chunks in the journal, requeued, preempted, requeued, done.
TEST_F(LedgerTest, KilledAndPreemptedInOneJob) {
  const std::string killed =
      R"({"kind":"submitted","time":1000,"jobs":["7"]}
{"kind":"start","time":1062,"began":1060,"job":"7","restarts":0,"ranks":2,"slots":2}
{"kind":"spent","time":1070,"seconds":{"loading":8}}
{"kind":"resumed","time":1070,"step":0}
{"kind":"spent","time":1100,"step":1,"seconds":{"generating":20,"gradient":8,"idle":2}}
{"kind":"job_end","time":1130,"job":"7","restarts":0,"again":true,"message":"killed","last_sign":1120}
)";
  const Account after_kill = account(killed);
  EXPECT_EQ(spent(after_kill), (Seconds{{"queued", 60},
                                        {"set_up", 2},
                                        {"loading", 8},
                                        {"generating", 20},
                                        {"gradient", 8},
                                        {"idle", 2},
                                        {"lost", 20},
                                        {"hung", 10}}));
  EXPECT_TRUE(after_kill.waits);

  const std::string resumed =
      killed +
      R"({"kind":"start","time":1151,"began":1150,"job":"7","restarts":1,"ranks":4,"slots":4}
{"kind":"spent","time":1160,"seconds":{"loading":9}}
{"kind":"resumed","time":1160,"step":1}
{"kind":"restored","time":1160,"step":1,"chunks":3,"seconds":{"generating":20,"gradient":10}}
{"kind":"end","time":1165,"code":75,"reason":"stopped by SIGTERM"}
{"kind":"job_end","time":1166,"job":"7","restarts":1,"again":true,"message":"to be started again"}
{"kind":"start","time":1201,"began":1200,"job":"7","restarts":2,"ranks":1,"slots":1}
{"kind":"spent","time":1210,"seconds":{"loading":9}}
{"kind":"resumed","time":1210,"step":1}
{"kind":"restored","time":1210,"step":1,"chunks":5,"seconds":{"generating":34.5,"gradient":11.5}}
{"kind":"spent","time":1220,"step":2,"seconds":{"generating":10}}
{"kind":"end","time":1221,"code":0,"reason":"finished"}
{"kind":"job_end","time":1222,"job":"7","restarts":2,"again":false,"message":"finished"}
)";
  const Account a = account(resumed);
  // The journal gave back 30 s of work in two slots: 15 of the 20 lost seconds. The second attempt
  // lost 5 s; 16 s of work in four slots were new in the journal after it: 4 of them.
  EXPECT_EQ(spent(a), (Seconds{{"queued", 60 + 20 + 34},
                               {"set_up", 2 + 1 + 1 + 1 + 1 + 1},
                               {"loading", 8 + 9 + 9},
                               {"generating", 20 + 10 + 3 + 10},
                               {"gradient", 8 + 5 + 1},
                               {"idle", 2},
                               {"lost", 5 + 1},
                               {"hung", 10}}));
  EXPECT_DOUBLE_EQ(a.total_s, 222);  // all of it, from the submission on
  EXPECT_EQ(a.attempts.size(), 3u);
  EXPECT_EQ(a.attempts[0].reason, "killed");
  EXPECT_EQ(a.attempts[1].reason, "stopped by SIGTERM");
  EXPECT_EQ(a.attempts[2].restored_chunks, 5);
  EXPECT_FALSE(a.waits);
}

// Checkpoints every few steps: steps that were finished and not saved are computed again.
TEST_F(LedgerTest, StepsBeyondTheCheckpointAreLost) {
  const Account a = account(
      R"({"kind":"start","time":10,"began":10,"job":"","slots":1}
{"kind":"resumed","time":10,"step":0}
{"kind":"spent","time":20,"step":1,"seconds":{"generating":10}}
{"kind":"spent","time":30,"step":2,"seconds":{"generating":8,"saving":2}}
{"kind":"spent","time":40,"step":3,"seconds":{"generating":10}}
{"kind":"start","time":90,"began":90,"job":"","slots":1,"previous_sign":44}
{"kind":"resumed","time":90,"step":2}
{"kind":"spent","time":100,"step":3,"seconds":{"generating":10}}
{"kind":"end","time":100,"code":0,"reason":"finished"}
)");
  // 4 s of step 4, and step 3; the 46 s until somebody came back are nobody's.
  EXPECT_EQ(spent(a), (Seconds{{"generating", 28}, {"saving", 2}, {"lost", 14}}));
}

// Chunks that outlive two kills are given back once, whichever attempt computed them.
TEST_F(LedgerTest, ChunksOfTheAttemptBeforeTheLastAreGivenBack) {
  const Account a = account(
      R"({"kind":"start","time":0,"began":0,"job":"3","restarts":0,"slots":2}
{"kind":"resumed","time":0,"step":0}
{"kind":"job_end","time":60,"job":"3","restarts":0,"again":true,"message":"killed","last_sign":60}
{"kind":"start","time":60,"began":60,"job":"3","restarts":1,"slots":2}
{"kind":"job_end","time":64,"job":"3","restarts":1,"again":true,"message":"killed","last_sign":64}
{"kind":"start","time":64,"began":64,"job":"3","restarts":2,"slots":2}
{"kind":"resumed","time":64,"step":0}
{"kind":"restored","time":64,"step":0,"chunks":5,"seconds":{"generating":100}}
{"kind":"job_end","time":70,"job":"3","restarts":2,"again":true,"message":"killed","last_sign":70}
{"kind":"start","time":70,"began":70,"job":"3","restarts":3,"slots":2}
{"kind":"resumed","time":70,"step":0}
{"kind":"restored","time":70,"step":0,"chunks":5,"seconds":{"generating":100}}
{"kind":"spent","time":75,"step":1,"seconds":{"generating":5}}
{"kind":"end","time":75,"code":0,"reason":"finished"}
)");
  // 70 s were lost at first, 50 of which had gone into the chunks; they are found twice.
  EXPECT_EQ(spent(a), (Seconds{{"generating", 55}, {"lost", 20}}));
}

// A job that never had the run, and a script that is handed in weeks after the end.
TEST_F(LedgerTest, TheEndOfAnotherJobIsNotTheRuns) {
  const std::string lines =
      R"({"kind":"start","time":10,"began":10,"job":"3","restarts":0,"slots":1}
{"kind":"resumed","time":10,"step":0}
{"kind":"job_end","time":12,"job":"4","restarts":0,"again":true,"message":"in use"}
{"kind":"spent","time":20,"step":1,"seconds":{"generating":10}}
{"kind":"end","time":20,"code":0,"reason":"finished"}
{"kind":"job_end","time":21,"job":"3","restarts":0,"again":false,"message":"finished"}
)";
  EXPECT_EQ(spent(account(lines)), (Seconds{{"generating", 10}, {"set_up", 1}}));
  const Account later = account(
      lines +
      R"({"kind":"job_end","time":900000,"job":"5","restarts":0,"again":false,"message":"finished"})");
  EXPECT_EQ(spent(later), (Seconds{{"generating", 10}, {"set_up", 1}}));
  EXPECT_FALSE(later.waits);
}

TEST_F(LedgerTest, AWaitThatTimedOutIsHung) {
  const Account a = account(
      R"({"kind":"start","time":10,"began":10,"job":"3","slots":1}
{"kind":"resumed","time":10,"step":0}
{"kind":"end","time":100,"code":75,"reason":"timeout after 60 s in 'chunks' of step 0: rank 1 ...","hung_s":60}
{"kind":"job_end","time":102,"job":"3","restarts":0,"again":true,"message":"again"}
)");
  EXPECT_EQ(spent(a), (Seconds{{"lost", 30}, {"hung", 60}, {"set_up", 2}}));
}

TEST_F(LedgerTest, ARunThatLivesIsAccountedForUpToItsLastSign) {
  const std::string lines =
      R"({"kind":"start","time":10,"began":10,"job":"3","slots":1}
{"kind":"resumed","time":10,"step":0}
{"kind":"spent","time":20,"step":1,"seconds":{"generating":10}}
)";
  EXPECT_EQ(account(lines, 25).total_s, 15);
  EXPECT_TRUE(account(lines, 25).running);
  EXPECT_EQ(account(lines).total_s, 10);
}

TEST_F(LedgerTest, BrokenLinesAndUnknownKindsArePassedOver) {
  const Account a = account(
      "{\"kind\":\"start\",\"time\":10,\"began\":9,\"slots\":0,\"hosts\":[3]}\n"
      "{\"kind\":\"spent\",\"ti\n[]\n{\"kind\":\"later\",\"time\":50}\n{}\n"
      "{\"kind\":\"spent\",\"time\":12,\"seconds\":{\"idle\":2,\"x\":\"y\"}}\n{\"kind\":\"sp");
  EXPECT_EQ(spent(a), (Seconds{{"set_up", 1}, {"idle", 2}}));
  EXPECT_EQ(read_account("nowhere").total_s, 0);
}

TEST_F(LedgerTest, WhatIsWrittenAddsUpToTheTimeThatPassed) {
  write_text("run/note", "");
  const double began = wall_clock_s() - 3;
  Attempt attempt{"12", 1, 2, 4, {"a", "b"}};
  {
    Ledger ledger("run", attempt, began, 0, false);
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    ledger.spent("loading");
    ledger.resumed(4);
    ledger.first_chunk(1.5);
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    ledger.spent({{"generating", 0.02}, {"gradient", 0.01}}, "idle", 5);
    ledger.spent({{"generating", 900}}, "idle", 6);  // more than passed: cut to it
    ledger.end(kExitFinished, "finished", 0);
  }
  const double passed = wall_clock_s() - began;
  const Account a = read_account("run");
  EXPECT_NEAR(a.total_s, passed, 0.05);
  EXPECT_NEAR(a.seconds.at("set_up"), 3, 0.05);
  EXPECT_NEAR(a.seconds.at("loading"), 0.06, 0.03);
  EXPECT_NEAR(a.seconds.at("generating"), 0.02, 0.01);
  EXPECT_NEAR(a.seconds.at("idle"), 0.03, 0.03);
  ASSERT_EQ(a.attempts.size(), 1u);
  EXPECT_EQ(a.attempts[0].attempt.job, "12");
  EXPECT_EQ(a.attempts[0].first_step, 4);
  EXPECT_EQ(a.attempts[0].last_step, 6);
  EXPECT_NEAR(a.attempts[0].first_chunk_s, 3.06, 0.05);
}

TEST_F(LedgerTest, AHeldLedgerWritesNothingBeforeItIsToldTo) {
  write_text("run/note", "");
  Ledger ledger("run", {}, wall_clock_s(), 0, true);
  ledger.spent("loading");
  EXPECT_TRUE(read_account("run").attempts.empty());
  ledger.go_ahead();
  ledger.end(kExitFinished, "finished", 0);
  EXPECT_EQ(read_account("run").attempts.size(), 1u);
}

TEST_F(LedgerTest, TheProcessBeganBeforeNow) {
  EXPECT_LT(process_began_s(), wall_clock_s() + 0.02);
  EXPECT_GT(process_began_s(), wall_clock_s() - 600);
}

TEST_F(LedgerTest, ASignOfLifeReadsBack) {
  write_text("run/note", "");
  SignOfLife start;
  start.host = "n1";
  start.job = "9";
  start.pid = 77;
  start.doing = "loading";
  {
    Pulse pulse("run", start, [] {});
    pulse.doing("chunks");
    pulse.at(3, 10, 2, 8);
    pulse.out({{5, 1, 2.5}});
  }
  const auto sign = last_sign_of_life("run");
  ASSERT_TRUE(sign);
  EXPECT_EQ(sign->host, "n1");
  EXPECT_EQ(sign->doing, "chunks");
  EXPECT_EQ(sign->step, 3);
  EXPECT_EQ(sign->chunks, 2);
  ASSERT_EQ(sign->out.size(), 1u);
  EXPECT_EQ(sign->out[0].rank, 1);
  EXPECT_NEAR(sign->time_s, wall_clock_s(), 2);

  // Taken over by another writer: silent.
  {
    Pulse pulse("run", {}, [] { throw make_error(kExitRequeue, "another owner"); });
  }
  EXPECT_EQ(last_sign_of_life("run")->pid, 77);
  write_text("run/alive.json", "{\"time\": 1");
  EXPECT_FALSE(last_sign_of_life("run"));
}

TEST(Stragglers, ASlowRankIsNamedOnceUntilItIsFastAgain) {
  Stragglers stragglers({"a", "b", "c"});
  EXPECT_THAT(stragglers.after_step({2, 2, 2}, {4, 4.4, 3.8}), IsEmpty());
  EXPECT_THAT(stragglers.after_step({2, 1, 2}, {4, 5.5, 3.8}),
              ElementsAre("rank 1 (host b) is slow: 5.5 s a chunk, the others 1.9 s"));
  EXPECT_THAT(stragglers.after_step({2, 1, 2}, {4, 5.5, 3.8}), IsEmpty());
  EXPECT_THAT(stragglers.after_step({2, 2, 2}, {4, 4, 4}), IsEmpty());
  EXPECT_EQ(stragglers.after_step({2, 1, 2}, {4, 5.5, 3.8}).size(), 1u);
  // Who computed nothing, or everything alone, is not compared; short chunks differ by chance.
  EXPECT_THAT(stragglers.after_step({0, 0, 4}, {0, 0, 400}), IsEmpty());
  EXPECT_THAT(stragglers.after_step({1, 1, 1}, {0.1, 0.5, 0.1}), IsEmpty());
}

TEST(Stragglers, AChunkThatTakesLongIsNamedOnce) {
  Stragglers stragglers({"a", "b"});
  EXPECT_THAT(stragglers.while_out({{3, 1, 29}}, 10), IsEmpty());
  EXPECT_THAT(stragglers.while_out({{3, 1, 31}, {4, 0, 2}}, 10),
              ElementsAre(HasSubstr("rank 1 (host b) has held chunk 3 for 31.0 s")));
  EXPECT_THAT(stragglers.while_out({{3, 1, 32}}, 10), IsEmpty());
  EXPECT_THAT(stragglers.while_out({{4, 1, 9}}, 1), IsEmpty());
  EXPECT_THAT(stragglers.while_out({{4, 1, 500}}, 0), IsEmpty());  // the first ever
}

}  // namespace
}  // namespace svfleet
