#include "coordinator/commands/remarks.h"

#include <algorithm>
#include <cstdio>

#include "comm/error.h"
#include "coordinator/config/targets.h"

namespace svfleet {

FormCosts form_costs(const Config& config, const std::vector<Target>& targets) {
  FormCosts costs;
  for (const Target& target : targets) {
    const double r = double(target.length()), k = double(target.basis_rows());
    costs.merge += 2 * k * k * r + 2 * double(target.rows) * double(target.cols) * k;
    costs.activation += 4 * k * r;
  }
  for (const Config& one : runs_of_one(config)) {
    int64_t longest = 0;
    for (const TaskSpec& task : one.tasks)
      longest = std::max(longest, int64_t(task.max_new_tokens));
    // Each is computed when it is drawn, and again for its gradient.
    costs.most_tokens += 2 * one.train.prompts_per_step * one.train.samples_per_prompt * longest;
  }
  return costs;
}

std::string remarks_on(const Config& config) {
  std::string text;
  for (const std::string& note : config.notes) text += "\n# " + note + "\n";
  if (config.train.evolves()) return text;                       // there is one form
  if (core_of(config).kind != CoreKind::kDiagonal) return text;  // what it costs is another thing
  try {
    const FormCosts costs = form_costs(
        config, targets_of(config, read_architecture(config.model.path, config.model.max_length)));
    char line[400];
    if (!config.experts.empty()) {  // W' is one expert's: there is one form
      std::snprintf(
          line, sizeof line,
          "\n# %zu experts, in the activation form: its products with Q cost %.3g GFLOP a "
          "step, for at most %lld tokens of\n# replies of all experts together, twice each "
          "counted.\n",
          config.experts.size(), costs.activation * double(costs.most_tokens) / 1e9,
          (long long)costs.most_tokens);
      return text + line;
    }
    std::snprintf(line, sizeof line,
                  "\n# train.form: building W' costs %.3g GFLOP a step, as much as the activation "
                  "form for %.0f tokens;\n# a step computes at most %lld tokens of replies, twice "
                  "each counted: %s is the cheaper form here.\n",
                  costs.merge / 1e9, costs.break_even(), (long long)costs.most_tokens,
                  double(costs.most_tokens) > costs.break_even() ? "merged" : "activation");
    text += line;
  } catch (const Error&) {  // no model there yet: nothing to say of it
  }
  return text;
}

}  // namespace svfleet
