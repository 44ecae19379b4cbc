#include "cluster/exit_report.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/error.h"

namespace svfleet {
namespace {

TEST(ExitReport, IsReadableJsonAndGoesAway) {
  std::string pattern = (std::filesystem::temp_directory_path() / "svfleet-XXXXXX").string();
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  const std::string run = pattern;
  remove_exit_report(run);  // none there: no error
  write_exit_report(run, {"a \"quoted\" reason \xFF", kExitRequeue, "42", 3, 17, 1, {"n2"}});
  std::ifstream in(run + "/exit.json");
  const auto json = nlohmann::json::parse(in);
  EXPECT_EQ(json["reason"], "a \"quoted\" reason \xEF\xBF\xBD");
  EXPECT_EQ(json["code"], 75);
  EXPECT_EQ(json["job"], "42");
  EXPECT_EQ(json["restarts"], 3);
  EXPECT_EQ(json["step"], 17);
  EXPECT_EQ(json["time"].get<std::string>().size(), 20u);
  EXPECT_EQ(json["start"], 1);
  EXPECT_EQ(json["hosts"], nlohmann::json({"n2"}));
  EXPECT_EQ(json.size(), 8u);
  const auto read = read_exit_report(run);
  EXPECT_EQ(read->start, 1);
  EXPECT_EQ(read->hosts, std::vector<std::string>{"n2"});
  // By a version that did not know of starts.
  std::ofstream(run + "/exit.json")
      << R"({"reason": "why", "code": 75, "job": "42", "restarts": 3, "step": 17})";
  EXPECT_EQ(read_exit_report(run)->start, 0);
  EXPECT_TRUE(read_exit_report(run)->hosts.empty());
  EXPECT_EQ(read_exit_report(run)->best_step, -1);
  write_exit_report(run, {"early_stop", 0, "", 0, 17, 0, {}, 12, 0.75});
  EXPECT_EQ(read_exit_report(run)->best_step, 12);
  EXPECT_EQ(read_exit_report(run)->best_score, 0.75);
  remove_exit_report(run);
  EXPECT_FALSE(std::filesystem::exists(run + "/exit.json"));
  EXPECT_THROW(write_exit_report(run + "/none", {}), Error);
  std::filesystem::remove_all(run);
}

}  // namespace
}  // namespace svfleet
