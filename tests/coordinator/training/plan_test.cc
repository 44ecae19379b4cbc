// What of an earlier program's runs is refused before anything is computed.
#include "coordinator/training/plan.h"

#include <gmock/gmock.h>

#include "comm/error.h"

namespace svfleet {
namespace {

using ::testing::HasSubstr;

std::string refusal_of(const std::string& bits) {
  RunState state;
  state.bits_config = bits;
  try {
    check_settings(state, Config(), {});
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    return error.what();
  }
}

TEST(Plan, RunsOfOtherEnginesAreRefusedWithWhatToDo) {
  const std::string old = refusal_of(R"({"settings": {}, "data": []})");
  EXPECT_THAT(old, HasSubstr("begun by an older svfleet, whose engine (1, this one's is 2)"));
  EXPECT_THAT(old, HasSubstr("svfleet train --fork RUN --set run_dir="));
  EXPECT_EQ(old.find('\n'), std::string::npos);
  EXPECT_THAT(refusal_of(R"({"engine": 3, "settings": {}, "data": []})"), HasSubstr("a newer"));
  // Control: of this engine's it is the settings that differ.
  EXPECT_THAT(refusal_of(R"({"engine": 2, "settings": {}, "data": []})"), HasSubstr("settings or"));
}

}  // namespace
}  // namespace svfleet
