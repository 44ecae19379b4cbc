// svfleet generate: a prompt's reply by the base model and by experts, one below the other,
// streamed.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "comm/error.h"
#include "coordinator/base/base.h"
#include "coordinator/base/factors.h"
#include "coordinator/commands/commands.h"
#include "coordinator/config/targets.h"
#include "coordinator/config/utf8.h"
#include "coordinator/run/json_line.h"
#include "coordinator/run/printed.h"
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
  return prompts;
}

}  // namespace

int generate_command(const CommandLine& line, const Config& given) {
  Crew crew(given);
  std::vector<Expert> experts;
  for (const std::string& path : line.experts) experts.push_back(load_expert(path));
  std::string expert_hashes;
  for (const Expert& expert : experts) expert_hashes += z_hash(expert) + " ";
  crew.agree("experts", expert_hashes);
  const Config config = adapting(experts, given);
  const std::vector<std::string> prompts = prompts_of(line, crew);
  if (prompts.empty())
    throw user_error("no prompt: the lines of standard input are empty, or none");
  for (size_t p = 0; p < prompts.size(); ++p) {
    if (prompts[p].empty()) throw user_error("prompt ", p + 1, " is empty; write something in it");
    if (not_utf8_at(prompts[p]) != std::string::npos)
      throw user_error("prompt ", p + 1,
                       " is not valid UTF-8, as all texts here; write it anew in it");
  }
  Base base = open_base(config, crew);
  crew.on_leader("compare with the run", [&] { check_trained_with(config, base.hashes); });
  std::vector<std::pair<std::string, std::vector<float>>> policies;
  if (!experts.empty() && !open_factors(config, crew, base, experts, line.experts))
    return kExitRequeue;
  for (size_t i = 0; i < experts.size(); ++i)
    policies.emplace_back(line.experts[i], flat_z(base, experts[i], line.experts[i]));

  // A prompt is a user message to the first task: its system message, prefill and limits apply.
  const TaskSpec& spec = config.tasks.front();
  SamplingOptions sampling;
  sampling.temperature = line.temperature.value_or(config.evaluate.temperature);
  sampling.top_k = config.evaluate.top_k;
  sampling.top_p = config.evaluate.top_p;
  sampling.min_p = config.evaluate.min_p;
  sampling.seed = uint64_t(config.evaluate.seed);
  std::vector<Prompt> asked;
  for (size_t p = 0; p < prompts.size(); ++p) {
    Item item;
    if (spec.has_system) item.messages.push_back({"system", spec.system});
    item.messages.push_back({"user", prompts[p]});
    if (!spec.chat) item.messages = {{"user", prompts[p]}};
    Prompt& prompt = asked.emplace_back(make_prompt(base, spec, item, int64_t(p)));
    if (line.max_new_tokens) prompt.max_new_tokens = int(*line.max_new_tokens);
    const std::string problem = length_problem(base.model->architecture(), prompt);
    if (!problem.empty()) throw user_error("prompt ", p + 1, ": ", problem);
  }
  if (crew.leads())
    warn_of_endless_turns(base.model->architecture(), *base.tokenizer, base.chat.get(), {spec});
  // As evaluate applies them: another form is another rounding, and may give another reply.
  const bool merged = config.train.sampling_form == "merged";
  Policy in_force = base_policy(base);
  size_t whose = 0;  // policies[whose - 1], or the base
  json results = json::array();
  for (size_t p = 0; p < prompts.size(); ++p) {
    if (crew.leads() && !line.json) std::printf("> %s\n", prompts[p].c_str());
    for (size_t i = 0; i <= policies.size(); ++i) {
      const std::string name = i == 0 ? "base" : policies[i - 1].first;
      if (i > 0 && i != whose) {
        in_force = enforce(base, crew, policies[i - 1].second, merged);
        whose = i;
      }
      const Policy policy = i == 0 ? base_policy(base) : in_force;
      crew.on_leader("generate", [&] {
        OnText stream = [&](const std::string& text) {
          std::fputs(text.c_str(), stdout);
          check_printed();  // nothing is generated for nobody
        };
        if (line.json)
          stream = nullptr;
        else
          std::printf("[%s] %s", name.c_str(), spec.prefill.c_str());
        const Rollout reply = generate(*base.model, *base.tokenizer, {asked[p]}, 1, sampling,
                                       policy.sampling, policy.d, stream)
                                  .front();
        if (!reply.finite && !line.json) std::printf("\n");
        if (!reply.finite)
          throw user_error("the logits of ", name, " hold a NaN or infinity (prompt ", p + 1,
                           "): the model or the expert is damaged");
        if (line.json)
          results.push_back({{"prompt", prompts[p]},
                             {"name", name},
                             {"prefill", spec.prefill},
                             {"reply", reply.text},
                             {"ended", reply.ended},
                             {"tokens", reply.tokens.size()}});
        else
          std::printf("%s\n", reply.ended ? "" : " [cut by the length limit]");
      });
    }
  }
  if (crew.leads() && line.json)
    std::printf(
        "%s\n",
        json_line(json{{"temperature", sampling.temperature}, {"results", results}}).c_str());
  return kExitFinished;
}

}  // namespace svfleet
