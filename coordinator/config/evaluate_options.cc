#include "coordinator/config/evaluate_options.h"

#include <CLI/CLI.hpp>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "coordinator/config/help_texts.h"
#include "coordinator/config/reader.h"

namespace svfleet {

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
      !line.out.empty() || line.controls || !line.adapt.set.empty())
    throw user_error("--from shows what its files hold: leave out all else but --json", see);
  for (size_t i = 0; i < line.from.size(); ++i)
    for (size_t k = 0; k < i; ++k)
      if (resolved_path(line.from[i]) == resolved_path(line.from[k]))
        throw user_error("--from '", shown(line.from[i]), "' is given twice; leave one out");
}

}  // namespace svfleet
