// Where an answer that is trained on ends, and how long prompt and answer may be.
#include "coordinator/base/prompts.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "comm/error.h"

namespace svfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr int kEndOfText = 317, kEndOfTurn = 319;

// Its stop tokens are listed as Llama 3.1's are: first one that ends a text, which no turn ends
// with.
Config config_of_tiny() {
  Config config;
  config.model.path = SVFLEET_SOURCE_DIR "/tests/data/models/tiny_llama3";
  TaskSpec task;
  task.name = "t";
  task.rewards.emplace_back().kind = RewardKind::kExact;
  config.tasks = {task};
  return config;
}

TEST(Prompts, AnAnswerEndsAsATurnDoes) {
  const Config config = config_of_tiny();
  Architecture architecture = read_architecture(config.model.path);
  ASSERT_THAT(architecture.stop_tokens, ElementsAre(kEndOfText, kEndOfTurn));
  const Texts texts = open_texts(config, architecture);
  const auto end_of = [&](const TaskSpec& spec) {
    Item item;
    item.messages = {{"user", "which?"}};
    const Prompt prompt = make_prompt(*texts.tokenizer, texts.chat.get(), spec, item, 0);
    return answer_end(architecture, *texts.tokenizer, texts.chat.get(), spec, prompt);
  };
  TaskSpec spec = config.tasks[0];
  EXPECT_EQ(end_of(spec), kEndOfTurn);
  spec.chat = false;  // a control: there are no turns
  EXPECT_EQ(end_of(spec), kEndOfText);
  // What would not end a reply is not taught, unless the task makes it a stop token.
  architecture.stop_tokens = {kEndOfText};
  spec.chat = true;
  EXPECT_EQ(end_of(spec), kEndOfText);
  spec.stop_tokens = {"<|im_end|>"};
  EXPECT_EQ(end_of(spec), kEndOfTurn);
}

// The limit that model.max_length sets holds for answers, too, not that of config.json alone.
TEST(Prompts, AnAnswerBeyondTheLongestIsRefused) {
  const fs::path file = fs::temp_directory_path() / ("prompts-" + std::to_string(getpid()));
  std::ofstream(file) << R"({"question": "which?", "answer": ")" << std::string(400, 'z')
                      << "\"}\n";
  Config config = config_of_tiny();
  config.train.method = "next_token";
  config.tasks[0].train = file.string();
  config.tasks[0].max_new_tokens = 1;  // the prompt alone is short enough
  const std::vector<Task> tasks = {load_task(config.tasks[0], "train")};
  EXPECT_NO_THROW(check_items(config, {{"train", tasks}}));
  config.model.max_length = 100;
  try {
    check_items(config, {{"train", tasks}});
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_THAT(error.what(), HasSubstr(":1: the prompt and its right answer have "));
    EXPECT_THAT(error.what(), HasSubstr("more than the model's 100 (model.max_length)"));
  }
  fs::remove(file);
}

}  // namespace
}  // namespace svfleet
