// svfleet generate: a prompt's reply by the base model and by experts, one below the other,
// streamed.
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "comm/error.h"
#include "coordinator/base/base.h"
#include "coordinator/base/factors.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/opening_set.h"
#include "coordinator/commands/reply_printer.h"
#include "coordinator/config/targets.h"
#include "coordinator/config/utf8.h"
#include "coordinator/training/evaluation.h"
#include "coordinator/training/policy.h"
#include "coordinator/training/trained_with.h"

namespace svfleet {

namespace {

using nlohmann::json;

// "-" stands for the lines of standard input, which rank 0 alone has.
std::vector<std::string> prompts_of(const CommandLine& line, Crew& crew) {
  std::vector<std::string> prompts;
  for (const std::string& prompt : line.prompts) {
    if (prompt != "-") {
      prompts.push_back(prompt);
      continue;
    }
    std::string told;
    if (crew.leads()) {
      json lines = json::array();
      for (std::string text; std::getline(std::cin, text);)
        if (!text.empty()) lines.push_back(text);
      told = lines.dump(-1, ' ', false, json::error_handler_t::replace);
    }
    crew.group().broadcast(told, 0, "broadcast prompts");
    for (const json& text : json::parse(told)) prompts.push_back(text);
  }
  if (prompts.empty())
    throw user_error("no prompt: the lines of standard input are empty, or none");
  for (size_t p = 0; p < prompts.size(); ++p)
    if (prompts[p].empty())
      throw user_error("prompt ", p + 1, " is empty; write something in it");
    else if (not_utf8_at(prompts[p]) != std::string::npos)
      throw user_error("prompt ", p + 1,
                       " is not valid UTF-8, as all texts here; write it anew in it");
  return prompts;
}

// Each text as a user message to a task: its system message, prefill and limits apply.
std::vector<Prompt> as_messages(const std::vector<std::string>& texts, const TaskSpec& spec,
                                const Base& base, const CommandLine& line) {
  std::vector<Prompt> asked;
  for (size_t p = 0; p < texts.size(); ++p) {
    Item item;
    if (spec.chat && spec.has_system) item.messages.push_back({"system", spec.system});
    // Without turns it stands before the text, as in the task's own items (rl/task.cc).
    const bool before = !spec.chat && !spec.system.empty();
    item.messages.push_back({"user", before ? spec.system + "\n\n" + texts[p] : texts[p]});
    Prompt& prompt = asked.emplace_back(make_prompt(base, spec, item, int64_t(p)));
    if (line.max_new_tokens) prompt.max_new_tokens = int(*line.max_new_tokens);
    const std::string problem = length_problem(base.weights->architecture(), prompt);
    if (!problem.empty()) throw user_error("prompt ", p + 1, ": ", problem);
  }
  return asked;
}

}  // namespace

int generate_command(const CommandLine& line, const Config& given) {
  Crew crew(given);
  const NamedExperts named = open_named(line, crew);
  const Config config = adapting(named.experts, given);
  const std::vector<std::string> texts = prompts_of(line, crew);
  const Task shots = shots_of(line.adapt, config, crew);
  Base base = open_base(config, crew);
  crew.on_leader("compare with the run", [&] { check_trained_with(config, base.hashes); });
  if (!named.experts.empty() && !open_factors(config, crew, base, named.experts, named.paths))
    return kExitRequeue;
  const OpenedSet opened = on_model(base, named);
  // Those of a set are shown one by one unless one of them is chosen.
  const size_t shown = line.adapt.strategy.empty() ? named.measurable : named.single;
  std::vector<std::vector<float>> z;  // of each expert
  for (size_t i = 0; i < shown; ++i) z.push_back(flat_z(base, named.experts[i], named.paths[i]));

  const TaskSpec& spec = config.tasks.front();
  std::vector<Prompt> asked = as_messages(texts, spec, base, line);
  if (crew.leads())
    warn_of_endless_turns(base.weights->architecture(), *base.tokenizer, base.chat.get(), {spec});
  std::optional<FirstPass> pass;
  if (!line.adapt.strategy.empty()) {
    pass = first_pass(base, crew, config, line.adapt, opened, texts, shots);
    if (!pass) return kExitRequeue;
  }
  SamplingOptions sampling = evaluation_options(config).sampling;
  if (line.temperature) sampling.temperature = *line.temperature;
  const Policy the_base = base_policy(base);
  Policy in_force;
  size_t whose = shown;  // which expert's
  ReplyPrinter printer(line.json, spec.prefill);
  const auto reply = [&](const std::string& name, const Policy& policy, size_t p) {
    crew.on_leader("generate", [&] {
      const OnText stream = printer.begin(name);
      Rollout reply;
      crew.helped([&] {
        reply = generate(*base.weights, *base.tokenizer, policy.adapter(), {asked[p]}, 1, sampling,
                         stream)
                    .front();
      });
      printer.end(name, reply);
      if (!reply.finite)
        throw user_error("the logits of ", name, " hold a NaN or infinity (prompt ", p + 1,
                         "): the model or the expert is damaged");
    });
  };
  for (size_t p = 0; p < asked.size(); ++p) {
    if (crew.leads()) printer.prompt(texts[p]);
    reply("base", the_base, p);
    for (size_t i = 0; i < shown; ++i) {
      if (i != whose)
        // As evaluate applies them: another form is another rounding, and may give another reply.
        in_force = enforce(base, crew, z[i], form_named(config.train.form), std::move(in_force));
      whose = i;
      reply(named.paths[i], in_force, p);
    }
    if (!pass) continue;
    if (!pass->entries.empty()) asked[p].entry = pass->entries[p];
    reply("adapt " + line.adapt.strategy + ": " + chosen_for(opened.set, *pass, p), pass->policy,
          p);
  }
  if (crew.leads()) printer.finish(sampling.temperature);
  return kExitFinished;
}

}  // namespace svfleet
