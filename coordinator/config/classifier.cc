#include "coordinator/config/classifier.h"

#include <algorithm>
#include <map>

#include "comm/error.h"

namespace svfleet {
namespace {

// As rl/item_template reads it.
std::string with_plain_braces(const std::string& text) {
  std::string out;
  for (const char c : text) {
    out += c;
    if (c == '{' || c == '}') out += c;
  }
  return out;
}

// The question with the task's own prompt, a template, in it.
std::string asked(const ExpertSet& set, const std::string& prompt) {
  const std::string mark = "\x01";
  std::string text = with_plain_braces(question_about(set, mark));
  for (size_t at = 0; (at = text.find(mark, at)) != text.npos; at += prompt.size())
    text.replace(at, mark.size(), prompt);
  return text;
}

RewardSpec letter_alone(const ExpertSet& set, const std::string& letter) {
  std::string others;
  for (const std::string& other : letters_of(set))
    if (other != letter) others += other;
  RewardSpec reward;
  reward.kind = RewardKind::kRegex;
  reward.match_only = true;
  reward.ignore_case = false;
  reward.pattern = "(?s)^\\Q" + set.question.prefill + "\\E[^A-Za-z]*" + letter + "\\b" +
                   (others.empty() ? "" : "(?!.*\\b[" + others + "]\\b)");
  return reward;
}

}  // namespace

Config classifier_config(Config config, const ExpertSet& set) {
  const std::vector<std::string> letters = letters_of(set);
  std::map<size_t, int> tasks_of;  // by owner
  for (const TaskSpec& task : config.tasks) {
    const size_t owner = set.owner_of(task.name);
    if (owner >= letters.size())
      throw user_error("the task '", task.name, "' of '", config.file, "' is no expert's in '",
                       set.path,
                       "', whose question has no other choice; name it in 'tasks' of "
                       "an expert, or leave it out");
    ++tasks_of[owner];
  }
  if (tasks_of.size() < 2)
    throw user_error(
        "all tasks of '", config.file, "' are of one expert in '", set.path,
        "': there is nothing to tell apart; give tasks of several with --set task=[...]");
  for (TaskSpec& task : config.tasks) {
    const size_t owner = set.owner_of(task.name);
    TaskSpec question;
    question.name = "whose_" + task.name;
    question.train = task.train;
    question.validation = task.validation;
    question.prompt = asked(set, task.prompt);
    question.answer = task.answer;
    question.choices = task.choices;
    question.chat = task.chat;
    question.prefill = set.question.prefill;
    question.max_new_tokens = set.question.max_new_tokens;
    question.rewards = {letter_alone(set, letters[owner])};
    question.weight = 1.0 / tasks_of[owner];
    task = std::move(question);
  }
  config.experts.clear();  // whose own tasks would stand in the place of these
  config.evaluate.split = "validation";
  return config;
}

}  // namespace svfleet
