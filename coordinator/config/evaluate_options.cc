#include "coordinator/config/evaluate_options.h"

#include <CLI/CLI.hpp>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "coordinator/config/reader.h"

namespace svfleet {
namespace {

constexpr char kEvaluateFooter[] =
    R"(Prints accuracy with its 95 % interval for the base model and each expert on the same items, and an
exact paired test of each against the base. Several experts also have p adjusted for their number (Holm).
With evaluate.samples above 1, pass@k and majority@k of each item's samples; intervals and tests go by items
then, or by clusters of items that are wordings of one (docs/training.md). When an expert of a run is
measured on the test split, RUN/readings.jsonl counts it.

Examples:
  svfleet evaluate run.yaml
  svfleet evaluate run.yaml --expert runs/a/experts/best.safetensors --expert other.safetensors
  svfleet evaluate run.yaml --set evaluate.split=validation --set evaluate.items=200 --json
  svfleet evaluate run.yaml --set evaluate.samples=16 --set evaluate.temperature=1 --out a.jsonl
  svfleet evaluate --from a.jsonl --from b.jsonl)";

}  // namespace

void add_evaluate_options(CLI::App* command, CommandLine* line) {
  command->add_option("--out", line->out, "Write every item and reply to this JSONL file")
      ->type_name("FILE")
      ->check([](const std::string& file) {
        return std::string(file.empty() ? "--out: no file is named" : "");
      });
  command
      ->add_option("--from", line->from,
                   "Show again what a file of --out holds, with nothing else; repeated, files of "
                   "the same items and base beside each other")
      ->type_name("FILE")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all();
  command->add_flag("--controls", line->controls,
                    "Also measure each expert shuffled within each matrix and mirrored about 1: "
                    "controls that must not reach its accuracy");
  command->footer(kEvaluateFooter);
}

void check_evaluate(const CommandLine& line, const std::string& see) {
  if (line.from.empty()) return;
  if (!line.config_file.empty() || !line.overrides.empty() || !line.experts.empty() ||
      !line.out.empty() || line.controls)
    throw user_error("--from shows what its files hold: leave out all else but --json", see);
  for (size_t i = 0; i < line.from.size(); ++i)
    for (size_t k = 0; k < i; ++k)
      if (resolved_path(line.from[i]) == resolved_path(line.from[k]))
        throw user_error("--from '", shown(line.from[i]), "' is given twice; leave one out");
}

}  // namespace svfleet
