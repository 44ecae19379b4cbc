#include "coordinator/base/splits.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace svfleet {
namespace {

using ::testing::ElementsAre;
namespace fs = std::filesystem;

class Splits : public ::testing::Test {
 protected:
  Splits() {
    folder_ = (fs::temp_directory_path() / ("splits-" + std::to_string(getpid()))).string();
    fs::create_directories(folder_);
  }
  ~Splits() override { fs::remove_all(folder_); }

  std::string file(const std::string& name, const std::vector<std::string>& questions) const {
    std::ofstream out(folder_ + "/" + name);
    for (const std::string& question : questions)
      out << R"({"question": ")" << question << R"(", "answer": "1"})"
          << "\n";
    return folder_ + "/" + name;
  }
  static Config config(const std::string& train, const std::string& validation,
                       const std::string& test) {
    TaskSpec task;
    task.name = "t";
    task.train = train, task.validation = validation, task.test = test;
    task.rewards.emplace_back().kind = RewardKind::kExact;
    Config config;
    config.tasks = {task};
    return config;
  }

  std::string folder_;
};

TEST_F(Splits, WithoutACommonPromptSayNothing) {
  EXPECT_THAT(
      prompts_in_two_splits(config(file("a", {"x", "y"}), file("b", {"z"}), file("c", {"w"}))),
      ElementsAre());
}

TEST_F(Splits, PromptsInTwoAreCountedAndNamed) {
  const std::string a = file("a", {"x", "y", "z"}), b = file("b", {"q", "z", "y"}),
                    c = file("c", {"r", "y"});
  EXPECT_THAT(prompts_in_two_splits(config(a, b, c)),
              ElementsAre("2 prompts stand in the train split and in the validation split, first " +
                              a + ":2 and " + b + ":3: what is measured there may be memory",
                          "1 prompt stands in the train split and in the test split, first " + a +
                              ":2 and " + c + ":2: what is measured there may be memory",
                          "1 prompt stands in the validation split and in the test split, first " +
                              b + ":3 and " + c + ":2: what is measured there may be memory"));
}

TEST_F(Splits, WithOneOfThem) {
  const Config all = config(file("a", {"x", "y"}), file("b", {"y"}), file("c", {"y"}));
  EXPECT_EQ(prompts_in_two_splits(all).size(), 3u);
  EXPECT_EQ(prompts_in_two_splits(all, "test").size(), 2u);
}

TEST_F(Splits, OfOtherTasksCountToo) {
  Config two = config(file("a", {"x"}), "", "");
  two.tasks.push_back(config("", "", file("c", {"w", "x"})).tasks[0]);
  EXPECT_EQ(prompts_in_two_splits(two).size(), 1u);
}

TEST_F(Splits, OneThatCannotBeReadIsLeftOut) {
  EXPECT_THAT(prompts_in_two_splits(config(file("a", {"x"}), folder_ + "/none", "")),
              ElementsAre());
}

}  // namespace
}  // namespace svfleet
