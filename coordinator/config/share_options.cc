#include "coordinator/config/share_options.h"

#include <CLI/CLI.hpp>

#include "comm/error.h"
#include "coordinator/config/option_values.h"

namespace svfleet {
namespace {

constexpr char kExportFooter[] =
    R"(OUT is a folder that is not there yet. merged: a Hugging Face model with the weights that svfleet itself
multiplies by in merged form. peft: a LoRA adapter for peft; exact where no matrix moves more than --max-rank
components, else the best of that rank, with the share of the change that is lost. native: the expert with a
model card, which --expert takes. See docs/sharing.md.

Examples:
  svfleet export run.yaml --expert runs/a/experts/best.safetensors --format merged merged-model
  svfleet export run.yaml --expert best.safetensors --format peft --max-rank 128 lora
  svfleet export run.yaml --expert best.safetensors --format native --base-model OWNER/NAME expert)";

constexpr char kRebaseFooter[] =
    R"(Near-equal singular values have no unique basis, so that an expert belongs to the factor store that it
was trained on: the one of CONFIG here. OUT gets the nearest z on another store of the same model, and what
no z there can express is printed, as a share of the change.

Example:
  svfleet rebase run.yaml --expert best.safetensors --store theirs.factors best-there.safetensors)";

constexpr char kTransferFooter[] =
    R"(CONFIG is of the model that the expert is to be used on. Each of its matrices gets the z of the matrix
with the same name, in the order of singular values. Whether that works is for svfleet evaluate to say, with
the same expert shuffled or reversed within each matrix as controls.

Examples:
  svfleet transfer other.yaml --expert best.safetensors moved.safetensors
  svfleet transfer other.yaml --expert best.safetensors --control shuffled control.safetensors)";

void add_expert_and_out(CLI::App* command, CommandLine* line, const char* what) {
  command->add_option("OUT", line->out, what)
      ->required()
      ->type_name("")
      ->check([](const std::string& path) {
        return std::string(path.empty() ? "OUT: nothing is named" : "");
      });
  command
      ->add_option("--expert", line->experts, "Expert file, or a folder of export --format native")
      ->type_name("FILE")
      ->required()
      ->expected(1)
      ->allow_extra_args(false);
}

}  // namespace

void add_export_options(CLI::App* command, CommandLine* line) {
  command->footer(kExportFooter);
  add_expert_and_out(command, line, "Folder to be made");
  command->add_option("--format", line->share.format, "merged, peft or native")
      ->required()
      ->type_name("FORMAT")
      ->check(any_of_these({"merged", "peft", "native"}));
  command
      ->add_option("--max-rank", line->share.max_rank,
                   "peft: components of a matrix that are kept (64)")
      ->type_name("K")
      ->check(CLI::Range(int64_t{1}, int64_t{1000000}).description(""));
  command
      ->add_option("--base-model", line->share.base_model,
                   "What others call the base model; found in its folder otherwise")
      ->type_name("NAME");
  command->add_option("--revision", line->share.revision, "Of the base model, likewise")
      ->type_name("REV");
}

void add_rebase_options(CLI::App* command, CommandLine* line) {
  command->footer(kRebaseFooter);
  add_expert_and_out(command, line, "Expert file to be made");
  command->add_option("--store", line->share.store, "The other factor store of the same model")
      ->required()
      ->type_name("DIR");
}

void add_transfer_options(CLI::App* command, CommandLine* line) {
  command->footer(kTransferFooter);
  add_expert_and_out(command, line, "Expert file to be made");
  command
      ->add_option("--control", line->share.control,
                   "shuffled or reversed within each matrix: what must not work as well")
      ->type_name("HOW")
      ->check(any_of_these({"shuffled", "reversed"}));
}

}  // namespace svfleet
