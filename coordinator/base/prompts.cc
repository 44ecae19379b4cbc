#include "coordinator/base/prompts.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "checkpoints/hash.h"
#include "comm/error.h"

namespace svfleet {
namespace {

// The special token that stands in `text`, or -1.
int special_token_in(const Tokenizer& tokenizer, const std::string& text) {
  for (const int id : tokenizer.encode(text))
    if (tokenizer.is_special(id)) return id;
  return -1;
}

// A token's text, or its number.
int token_named(const Tokenizer& tokenizer, const TaskSpec& spec, const std::string& name) {
  int id = -1;
  const auto [end, code] = std::from_chars(name.data(), name.data() + name.size(), id);
  const bool is_number = end == name.data() + name.size() && code == std::errc();
  if (!is_number) id = tokenizer.id_of(name).value_or(-1);
  if (id < 0 || id >= tokenizer.size())
    throw user_error("task '", spec.name, "': stop_tokens: there is no token '", name,
                     "' in the model's tokenizer.json; give a token as it stands there, or its id");
  return id;
}

// As models name theirs; <answer> and its like are texts that people ask for.
bool looks_special(std::string_view text) {
  for (const char* known : {"<s>", "</s>", "<bos>", "<eos>", "<pad>", "<unk>", "<end_of_turn>",
                            "<start_of_turn>", "[INST]", "[/INST]"})
    if (text == known) return true;
  const auto between = [&](std::string_view begin, std::string_view end) {
    return text.size() > begin.size() + end.size() && text.starts_with(begin) &&
           text.ends_with(end) && text.find_first_of(" \t\n") == text.npos;
  };
  return between("<|", "|>") || between("<\uff5c", "\uff5c>");
}

// Special tokens never stand in a reply's text, so a stop text that is one stops as a token.
void add_stops(const Tokenizer& tokenizer, const TaskSpec& spec, Prompt* prompt) {
  for (const std::string& name : spec.stop_tokens)
    prompt->stop_tokens.push_back(token_named(tokenizer, spec, name));
  for (const std::string& text : spec.stop) {
    const auto id = tokenizer.id_of(text);
    if (id && tokenizer.is_special(*id)) {
      prompt->stop_tokens.push_back(*id);
      continue;
    }
    const int inside = special_token_in(tokenizer, text);
    if (inside >= 0)
      throw user_error("task '", spec.name, "': the stop text '", text,
                       "' holds the special token '", tokenizer.token(inside),
                       "', which never stands in a reply's text; give '", tokenizer.token(inside),
                       "' alone");
    prompt->stop.push_back(text);
  }
}

bool trains_on_answers(const Config& config) {
  return config.train.method == "next_token" && config.train.texts == "answers";
}

std::string answer_problem(const Architecture& architecture, const Tokenizer& tokenizer,
                           const Prompt& prompt, const Item& item) {
  if (item.gold.answer.empty())
    return "it has no answer, which train.texts answers would train on; name its field in "
           "task.answer, or set train.texts to right_replies";
  return length_problem(architecture, prompt, answer_tokens(tokenizer, item, 0).size());
}

bool ends_reply(const Architecture& architecture, const Prompt& prompt, int id) {
  const auto has = [&](const std::vector<int>& stops) {
    return std::find(stops.begin(), stops.end(), id) != stops.end();
  };
  return has(architecture.stop_tokens) || has(prompt.stop_tokens);
}

// The limit of a model's length, and who has set it.
std::string limit_text(const Architecture& architecture) {
  const int64_t limit = architecture.longest;
  return std::to_string(limit) + (limit != architecture.max_positions ? " (model.max_length)" : "");
}

}  // namespace

Texts open_texts(const Config& config, const Architecture& architecture) {
  const std::string& folder = config.model.path;
  Texts texts;
  texts.tokenizer = std::make_unique<Tokenizer>(Tokenizer::load(folder));
  if (texts.tokenizer->size() > architecture.vocabulary)
    throw user_error("'", folder, "': tokenizer.json has ", texts.tokenizer->size(),
                     " tokens, more than the model's vocab_size ", architecture.vocabulary,
                     "; the files do not belong together");
  const bool any_plain = std::any_of(config.tasks.begin(), config.tasks.end(),
                                     [](const TaskSpec& task) { return !task.chat; });
  if (any_plain && !texts.tokenizer->disagreement().empty())
    throw user_error(texts.tokenizer->disagreement(), ", and a task with chat: false asks for it; ",
                     "make the two agree");
  const bool any_chat =
      config.tasks.empty() || std::any_of(config.tasks.begin(), config.tasks.end(),
                                          [](const TaskSpec& task) { return task.chat; });
  if (!any_chat) return texts;
  const ModelConfig& model = config.model;
  texts.chat = std::make_unique<ChatTemplate>(
      is_given(model.chat_format) ? ChatTemplate::of_format(model.chat_format)
                                  : ChatTemplate::load(folder, model.chat_template));
  const std::string bos = texts.chat->bos();
  if (!bos.empty() && !texts.tokenizer->id_of(bos))
    throw user_error("'", folder, "': the chat template '", texts.chat->name(), "' begins with '",
                     bos,
                     "', which is no token of tokenizer.json; the files do not belong together");
  return texts;
}

FolderHashes folder_hashes(const Architecture& architecture, const Tokenizer& tokenizer,
                           const ChatTemplate* chat) {
  return {architecture.content_hash(), tokenizer.content_hash(),
          chat ? hash_bytes(chat->identity() + chat->render({{"user", "question"}})) : "none",
          architecture.shape()};
}

Prompt make_prompt(const Tokenizer& tokenizer, const ChatTemplate* chat, const TaskSpec& spec,
                   const Item& item, int64_t key) {
  Prompt prompt;
  prompt.key = key;
  prompt.max_new_tokens = spec.max_new_tokens;
  add_stops(tokenizer, spec, &prompt);
  if (spec.chat)
    prompt.tokens = tokenizer.encode(chat->render(item.messages) + spec.prefill);
  else
    prompt.tokens =
        tokenizer.encode(item.messages.front().content + spec.prefill, /*special=*/true);
  return prompt;
}

int answer_end(const Architecture& architecture, const Tokenizer& tokenizer,
               const ChatTemplate* chat, const TaskSpec& spec, const Prompt& prompt) {
  const auto id = spec.chat && chat ? tokenizer.id_of(chat->turn_end()) : std::nullopt;
  return id && ends_reply(architecture, prompt, *id) ? *id : architecture.stop_tokens.front();
}

std::vector<int> answer_tokens(const Tokenizer& tokenizer, const Item& item, int end) {
  // For itself, not as one text with the prompt: what is trained is what would be sampled, and a
  // prompt's last token is not changed by what follows.
  std::vector<int> tokens = tokenizer.encode(item.gold.answer);
  tokens.push_back(end);
  return tokens;
}

std::string length_problem(const Architecture& architecture, const Prompt& prompt) {
  const int64_t length = int64_t(prompt.tokens.size());
  if (length == 0) return "the prompt is empty: it has no tokens; write something in it";
  const int64_t limit = architecture.longest;
  if (!limit || length + prompt.max_new_tokens <= limit) return "";
  return "the prompt has " + std::to_string(length) + " tokens and may be answered with " +
         std::to_string(prompt.max_new_tokens) + ", more than the model's " +
         limit_text(architecture) + "; shorten it or the task's max_new_tokens";
}

std::string length_problem(const Architecture& architecture, const Prompt& prompt, size_t answer) {
  const size_t length = prompt.tokens.size() + answer;
  if (!architecture.longest || int64_t(length) <= architecture.longest) return "";
  return "the prompt and its right answer have " + std::to_string(length) +
         " tokens, more than the model's " + limit_text(architecture) + "; shorten them";
}

void warn_of_endless_turns(const Architecture& architecture, const Tokenizer& tokenizer,
                           const ChatTemplate* chat, const std::vector<TaskSpec>& tasks) {
  for (const TaskSpec& task : tasks)
    for (const std::string& text : task.stop)
      if (looks_special(text) && !tokenizer.id_of(text))
        spdlog::warn(
            "task '{}': the stop text '{}' looks like a special token, but is none of this model's "
            "tokenizer.json: it ends a reply only where the model spells it out",
            task.name, text);
  if (!chat) return;
  const std::string end = chat->turn_end();
  const auto id = tokenizer.id_of(end);
  if (!id) {
    spdlog::warn(
        "the chat template '{}' ends a turn with '{}', which is no token of this model: it was "
        "trained with another template, and its replies may run on to the length limit",
        chat->name(), end);
    return;
  }
  for (const TaskSpec& task : tasks) {
    Prompt prompt;
    add_stops(tokenizer, task, &prompt);
    if (!task.chat || ends_reply(architecture, prompt, *id)) continue;
    std::string names;
    for (const int stop : architecture.stop_tokens)
      names += (names.empty() ? "'" : ", '") +
               (stop < tokenizer.size() ? tokenizer.token(stop) : std::to_string(stop)) + "'";
    spdlog::warn(
        "task '{}': the chat template '{}' ends a turn with '{}', which does not end a reply (the "
        "model's stop tokens are {}): replies may run on to the length limit; add it with "
        "task.stop_tokens: ['{}']",
        task.name, chat->name(), end, names, end);
  }
}

void check_items(const Config& config, const std::vector<SplitItems>& splits) {
  const Architecture architecture = read_architecture(config.model.path, config.model.max_length);
  const Texts texts = open_texts(config, architecture);
  for (const SplitItems& split : splits)
    for (const Task& task : split.tasks)
      for (const Item& item : task.items) {
        const Prompt prompt = make_prompt(*texts.tokenizer, texts.chat.get(), task.spec, item, 0);
        std::string problem = length_problem(architecture, prompt);
        if (problem.empty() && split.name == "train" && trains_on_answers(config))
          problem = answer_problem(architecture, *texts.tokenizer, prompt, item);
        if (!problem.empty())
          throw user_error(split_file(task.spec, split.name), ":", item.index + 1, ": ", problem);
      }
  warn_of_endless_turns(architecture, *texts.tokenizer, texts.chat.get(), config.tasks);
}

}  // namespace svfleet
