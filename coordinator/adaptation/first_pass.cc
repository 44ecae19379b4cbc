#include "coordinator/adaptation/first_pass.h"

#include <cstdio>

#include "comm/error.h"
#include "coordinator/adaptation/routing.h"

namespace svfleet {
namespace {

std::optional<FirstPass> routed(const Base& base, Crew& crew, const Config& config,
                                const AdaptRequest& request, const OpenedSet& opened,
                                const std::vector<std::string>& prompts) {
  const Policy asked = request.strategy == "prompt"
                           ? base_policy(base)
                           : enforce(base, crew, opened.classifier, form_named(config.train.form));
  auto routing = route(base, crew, asked, opened.set, prompts, config.evaluate.batch);
  if (!routing) return std::nullopt;
  FirstPass pass;
  pass.policy = policy_of_all(base, opened.z);
  for (const size_t to : routing->to)
    pass.entries.push_back(to < opened.z.size() ? int(to) + 1 : kBaseEntry);
  pass.to = std::move(routing->to);
  pass.cost = routing->cost;
  return pass;
}

std::optional<FirstPass> searched(const Base& base, Crew& crew, const Config& config,
                                  const AdaptRequest& request, const OpenedSet& opened,
                                  const Task& shots) {
  const auto budget = request.budget == "light" ? light_budget : full_budget;
  FirstPass pass;
  pass.search =
      search_mixture(base, crew, opened.z, shots,
                     budget(int(opened.z.size()), request.most, uint64_t(config.evaluate.seed)),
                     evaluation_options(config));
  if (!pass.search) return std::nullopt;
  pass.cost = pass.search->cost;
  pass.policy = enforce(base, crew, mixed_z(base, opened.z, pass.search->shares),
                        form_named(config.train.form));
  return pass;
}

}  // namespace

void check_strategy(const AdaptRequest& request, const ExpertSet& set) {
  if (request.strategy == "classifier" && set.classifier.empty())
    throw user_error("'", set.path, "' has no classifier, an expert that answers its question; ",
                     "train one and give its file as 'classifier'");
  if (request.strategy != "few_shot" && !request.strategy.empty()) letters_of(set);  // too many?
}

Policy policy_of_all(const Base& base, const std::vector<std::vector<float>>& experts) {
  Policy policy = base_policy(base);
  ExpertTable table(*base.basis);
  for (const std::vector<float>& z : experts) table.add(z);
  policy.table = std::make_shared<ExpertTable>(std::move(table));
  policy.form = Apply::kActivation;
  return policy;
}

std::string chosen_for(const ExpertSet& set, const FirstPass& pass, size_t prompt) {
  if (!pass.search) return set.labels()[pass.to[prompt]];
  std::string text;
  double base = 1;
  const auto add = [&](double share, const std::string& label) {
    if (share == 0) return;
    char number[32];
    std::snprintf(number, sizeof number, "%.3f ", share);
    text += (text.empty() ? "" : " + ") + (number + label);
  };
  for (size_t k = 0; k < set.members.size(); ++k) {
    add(pass.search->shares[k], set.members[k].label);
    base -= pass.search->shares[k];
  }
  add(base, "base");
  return text;
}

std::optional<FirstPass> first_pass(const Base& base, Crew& crew, const Config& config,
                                    const AdaptRequest& request, const OpenedSet& opened,
                                    const std::vector<std::string>& prompts, const Task& shots) {
  return request.strategy == "few_shot" ? searched(base, crew, config, request, opened, shots)
                                        : routed(base, crew, config, request, opened, prompts);
}

}  // namespace svfleet
