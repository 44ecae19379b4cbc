// alive.json follows what the run is doing, not only the clock.
#include "coordinator/run/pulse.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "comm/error.h"
#include "tests/coordinator/config/files.h"

namespace svfleet {
namespace {

class PulseTest : public ConfigFiles {};

// Until the file says so. A minute is for a machine that hangs.
bool comes_to_say(const std::string& what) {
  for (int i = 0; i < 6000; ++i) {
    const auto sign = last_sign_of_life("run");
    if (sign && sign->doing == what) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST_F(PulseTest, WhatIsDoneIsToldAsSoonAsItChanges) {
  write_text("run/run.json", "{}");
  SignOfLife start;
  start.doing = "loading";
  Pulse pulse(
      "run", start, [] {}, /*every_s=*/3600);
  EXPECT_TRUE(comes_to_say("loading"));
  for (const char* what : {"chunks of step 1", "saving", "validation"}) {
    pulse.doing(what);
    EXPECT_TRUE(comes_to_say(what)) << what;
  }
}

TEST_F(PulseTest, WhoseFolderIsAnothersSaysNothing) {
  write_text("run/run.json", "{}");
  {
    Pulse pulse(
        "run", {}, [] { throw user_error("taken over"); }, 3600);
    pulse.doing("saving");
  }
  EXPECT_FALSE(last_sign_of_life("run").has_value());
}

}  // namespace
}  // namespace svfleet
