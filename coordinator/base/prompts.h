// From the items of tasks to what the model reads, and where its replies end. Opened and checked
// before the model's weights are read, so that what cannot go well is said at once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "coordinator/config/config.h"
#include "coordinator/run/identity.h"
#include "rl/task.h"
#include "worker/model/architecture.h"
#include "worker/model/generate.h"
#include "worker/tokenizer/chat_template.h"
#include "worker/tokenizer/tokenizer.h"

namespace svfleet {

struct Texts {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat;  // none when no task uses it
};

// Reads the model folder's tokenizer and chat template. Error(kExitUser) when they do not belong to
// the model.
Texts open_texts(const Config& config, const Architecture& architecture);

// As a checkpoint and an expert have them.
FolderHashes folder_hashes(const Architecture& architecture, const Tokenizer& tokenizer,
                           const ChatTemplate* chat);

// The tokens that the model sees for an item, and where the reply ends. Error(kExitUser) for stop
// texts and tokens that the tokenizer cannot make.
Prompt make_prompt(const Tokenizer& tokenizer, const ChatTemplate* chat, const TaskSpec& spec,
                   const Item& item, int64_t key);

// The token that ends an answer to `prompt`: the one with which the chat template ends a turn,
// where it ends a reply; else the first of the model's stop tokens. The order of these is no hint:
// Llama 3.1 lists one that ends a text before those that end a turn.
int answer_end(const Architecture& architecture, const Tokenizer& tokenizer,
               const ChatTemplate* chat, const TaskSpec& spec, const Prompt& prompt);

// The item's own answer as a reply: its tokens, and `end`.
std::vector<int> answer_tokens(const Tokenizer& tokenizer, const Item& item, int end);

// What is wrong with a prompt of so many tokens: none at all, or more than the model may compute;
// else empty.
std::string length_problem(const Architecture& architecture, const Prompt& prompt);
// The same of a prompt with its answer, of so many tokens.
std::string length_problem(const Architecture& architecture, const Prompt& prompt, size_t answer);

// Warns of a chat template whose end of a turn does not end the replies of a task, and of stop
// texts that look like the special token of another model.
void warn_of_endless_turns(const Architecture& architecture, const Tokenizer& tokenizer,
                           const ChatTemplate* chat, const std::vector<TaskSpec>& tasks);

struct SplitItems {
  std::string name;  // train, validation or test
  const std::vector<Task>& tasks;
};
// Error(kExitUser) with file:line for the first item of these splits that cannot be asked; warns as
// above.
void check_items(const Config& config, const std::vector<SplitItems>& splits);

}  // namespace svfleet
