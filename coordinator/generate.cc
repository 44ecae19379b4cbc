// svfleet generate: a prompt's reply by the base model and by experts, one below the other,
// streamed.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "comm/error.h"
#include "coordinator/base.h"
#include "coordinator/commands.h"
#include "coordinator/factors.h"
#include "coordinator/policy.h"

namespace svfleet {

int generate_command(const CommandLine& line, const Config& config) {
  Crew crew(config);
  std::vector<Expert> experts;
  for (const std::string& path : line.experts) experts.push_back(load_expert(path));
  std::string expert_hashes;
  for (const Expert& expert : experts) expert_hashes += z_hash(expert) + " ";
  crew.agree("experts", expert_hashes);
  Base base = open_base(config, crew);
  std::vector<std::pair<std::string, std::vector<float>>> policies;
  if (!experts.empty() && !open_factors(config, crew, base)) return kExitRequeue;
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
  std::vector<Prompt> prompts;
  for (size_t p = 0; p < line.prompts.size(); ++p) {
    Item item;
    if (spec.has_system) item.messages.push_back({"system", spec.system});
    item.messages.push_back({"user", line.prompts[p]});
    if (!spec.chat) item.messages = {{"user", line.prompts[p]}};
    Prompt& prompt = prompts.emplace_back(make_prompt(base, spec, item, int64_t(p)));
    if (line.max_new_tokens) prompt.max_new_tokens = int(*line.max_new_tokens);
    const std::string problem = length_problem(base.model->architecture(), prompt);
    if (!problem.empty()) throw user_error("prompt ", p + 1, ": ", problem);
  }
  if (crew.leads())
    warn_of_endless_turns(base.model->architecture(), *base.tokenizer, base.chat.get(), {spec});
  nlohmann::json results = nlohmann::json::array();
  for (size_t p = 0; p < line.prompts.size(); ++p) {
    const Prompt& prompt = prompts[p];
    if (crew.leads() && !line.json) std::printf("> %s\n", line.prompts[p].c_str());
    for (size_t i = 0; i <= policies.size(); ++i) {
      const std::string name = i == 0 ? "base" : policies[i - 1].first;
      const Policy policy =
          i == 0 ? base_policy(base) : enforce(base, crew, policies[i - 1].second, false);
      crew.on_leader("generate", [&] {
        OnText stream = [&](const std::string& text) {
          std::fputs(text.c_str(), stdout);
          std::fflush(stdout);
        };
        if (line.json)
          stream = nullptr;
        else
          std::printf("[%s] ", name.c_str());
        const Rollout reply = generate(*base.model, *base.tokenizer, {prompt}, 1, sampling,
                                       policy.sampling, policy.d, stream)
                                  .front();
        if (!reply.finite && !line.json) std::printf("\n");
        if (!reply.finite)
          throw user_error("the logits of ", name, " hold a NaN or infinity (prompt ", p + 1,
                           "): the model or the expert is damaged");
        if (line.json)
          results.push_back({{"prompt", line.prompts[p]},
                             {"name", name},
                             {"reply", reply.text},
                             {"ended", reply.ended},
                             {"tokens", reply.tokens.size()}});
        else
          std::printf("%s\n", reply.ended ? "" : " [cut by the length limit]");
      });
    }
  }
  if (crew.leads() && line.json)
    std::printf("%s\n",
                results.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  return kExitFinished;
}

}  // namespace svfleet
