#include "coordinator/config/adapt_options.h"

#include <CLI/CLI.hpp>
#include <cmath>

#include "comm/error.h"
#include "coordinator/config/option_values.h"

namespace svfleet {
namespace {

constexpr char kAdaptFooter[] =
    R"(SET is a YAML list of expert files (docs/adaptation.md). The first pass finds who should answer, the
second one answers the items of evaluate.split, each prompt with its own expert in one batch:
  prompt       the base model is asked what each prompt is about; "other" is answered by the base itself
  classifier   the same question, answered by the set's classifier, an expert trained for it
  few_shot     the cross-entropy method mixes base and experts for the solved examples of --shots
Prints the accuracy beside the base's, how often prompts came to the right expert beside the majority class
and a bag of words, and what both passes cost. Sampling and search follow evaluate.temperature and
evaluate.seed. No split is needed but the one that is measured; shots that stand in it or in the test split
are refused.

Examples:
  svfleet adapt run.yaml --experts set.yaml --strategy prompt --set evaluate.split=validation
  svfleet adapt run.yaml --experts set.yaml --strategy few_shot --shots shots.jsonl --out mixed.safetensors
  svfleet adapt run.yaml --experts set.yaml --strategy few_shot --shots shots.jsonl --budget light --json)";

}  // namespace

void add_set_options(CLI::App* command, CommandLine* line, const char* strategy) {
  AdaptRequest* adapt = &line->adapt;
  command->add_option("--experts", adapt->set, "Expert set: a YAML list of expert files")
      ->type_name("SET");
  command
      ->add_option(strategy, adapt->strategy,
                   "prompt, classifier or few_shot: how the experts for a prompt are found")
      ->type_name("NAME")
      ->check(any_of_these({"prompt", "classifier", "few_shot"}));
  command
      ->add_option("--shots", adapt->shots,
                   "few_shot: JSONL file of solved examples, as the task's own files are")
      ->type_name("FILE");
  command
      ->add_option("--budget", adapt->budget, "few_shot: full (960 mixtures at most) or light (32)")
      ->type_name("B")
      ->check(any_of_these({"full", "light"}));
  command
      ->add_option("--most", adapt->most,
                   "few_shot: what the experts' shares may add up to (1); the base has the rest")
      ->type_name("S")
      ->check(CLI::Range(0.01, 100.0).description(""));
}

void add_adapt_options(CLI::App* command, CommandLine* line) {
  command->footer(kAdaptFooter);
  add_set_options(command, line, "--strategy");
  for (const char* name : {"--experts", "--strategy"}) command->get_option(name)->required();
  command->add_option("--out", line->out, "few_shot: expert file to be made of the mixture")
      ->type_name("FILE");
}

void check_adapt(const CommandLine& line, const std::string& see) {
  const AdaptRequest& adapt = line.adapt;
  const std::string strategy = line.command == Command::kGenerate ? "--adapt" : "--strategy";
  const bool few_shot = adapt.strategy == "few_shot";
  if (!adapt.strategy.empty() && adapt.set.empty())
    throw user_error(strategy, " chooses among the experts of a set: give --experts SET", see);
  if (few_shot && adapt.shots.empty())
    throw user_error("few_shot searches with solved examples: give --shots FILE", see);
  if (!few_shot && (!adapt.shots.empty() || adapt.budget != "full" || adapt.most != 1))
    throw user_error("--shots, --budget and --most belong to ", strategy, " few_shot", see);
  if (!std::isfinite(adapt.most)) throw user_error("--most must be a number", see);
  if (line.command == Command::kAdapt && !few_shot && !line.out.empty())
    throw user_error("--out keeps the mixture of --strategy few_shot; leave it out", see);
}

}  // namespace svfleet
