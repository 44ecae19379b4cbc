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
  int64_t longest = 0;
  for (const TaskSpec& task : config.tasks)
    longest = std::max(longest, int64_t(task.max_new_tokens));
  // Each is computed when it is drawn, and again for its gradient.
  costs.most_tokens = 2 * config.train.prompts_per_step * config.train.samples_per_prompt * longest;
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
