#include "coordinator/commands/submit_checks.h"

#include "checkpoints/file.h"
#include "checkpoints/owner.h"
#include "checkpoints/run_checkpoint.h"
#include "cluster/partition.h"
#include "cluster/slurm.h"
#include "comm/error.h"
#include "coordinator/base/base.h"
#include "coordinator/base/prompts.h"
#include "coordinator/base/splits.h"
#include "coordinator/config/run_file.h"
#include "coordinator/config/targets.h"
#include "coordinator/run/folder.h"
#include "coordinator/run/progress.h"
#include "coordinator/training/best.h"
#include "coordinator/training/plan.h"

namespace svfleet {

void check_files(const Config& config, const std::string& start) {
  const std::string model = config.model.path;
  if (!is_folder(model))
    throw user_error("model.path '", model, "' is not a folder; it holds the Hugging Face model");
  if (!file_exists(model + "/config.json"))
    throw user_error("model.path '", model, "' has no config.json; it is not a Hugging Face model");
  for (const TaskSpec& task : config.tasks) {
    if (task.train.empty())
      throw user_error("task '", task.name, "' has no train data; training needs it");
    for (const std::string& file : {task.train, task.validation, task.few_shot})
      if (!file.empty() && (!file_exists(file) || is_folder(file)))
        throw user_error("task '", task.name, "': file '", file, "' does not exist");
  }
  if (!start.empty() && (!file_exists(start) || is_folder(start)))
    throw user_error("train.init_from '", start, "' does not exist; it is an expert file");
}

void check_characters(const std::string& what, const std::string& path) {
  for (const char c : path)
    if (c == '"' || c == '\\' || c == '%' || static_cast<unsigned char>(c) < ' ')
      throw user_error(what, " '", path,
                       "' holds a character that Slurm changes in paths; "
                       "choose another folder");
}

void check_shared(const JobRequest& ask, const std::string& what, const std::string& path,
                  const std::string& mounts) {
  const std::string why = node_local(path, mounts);
  if (why.empty() || ask.allow_local) return;
  throw user_error(what, " '", path, "' is not seen by all nodes: ", why, "; use a shared disk",
                   ask.nodes == 1 ? ", or --allow-local" : "");
}

void check_all_shared(const JobScript& job, const Config& config, const std::string& start,
                      const std::string& mounts) {
  const auto check = [&](const std::string& what, const std::string& path) {
    if (!path.empty()) check_shared(job.request, what, resolved_path(path), mounts);
  };
  check("run_dir", job.run_dir);
  check("svd.store", job.store);
  check("model.path", config.model.path);
  check("the working directory", job.folder);
  for (const std::string& folder : job.libraries) check("the libraries' folder", folder);
  check("the configuration", config.file);
  check("train.init_from", start);
  for (const TaskSpec& task : config.tasks) {
    check("task file", task.file);
    for (const std::string& file : {task.train, task.validation, task.few_shot})
      check("task '" + task.name + "': file", file);
  }
}

void check_free(const std::string& run_dir) {
  const auto owner = look_at_owner(run_dir);
  if (!owner || owner->dead ||
      job_ended(owner->who.job, owner->who.cluster, of_this_user(owner->who)))
    return;
  throw user_error("the run in '", run_dir, "' is in use by process ", owner->who.pid, " on host ",
                   owner->who.host, owner->who.job.empty() ? "" : " of job " + owner->who.job,
                   " since ", owner->started, "; wait for it, or end it with svfleet stop");
}

std::string check_run(const Config& config) {
  check_run_dir(config);
  targets_of(config, read_architecture(config.model.path, config.model.max_length));
  const std::vector<Config> runs = runs_of_one(config);
  const std::vector<std::string> names = expert_names(config);
  auto state = is_folder(config.run_dir + "/checkpoints")
                   ? load_newest_checkpoint(config.run_dir).state
                   : std::nullopt;
  if (state) check_same_experts(*state, config);
  for (size_t e = 0; e < runs.size(); ++e) {
    const RunItems items = read_items(runs[e]);
    check_items(runs[e], {{"train", items.train}, {"validation", items.validation}});
    for (const std::string& text : prompts_in_two_splits(runs[e], "", &items.train))
      print_line("svfleet: " + text);
    if (!state) continue;
    RunState& own = *states_of(*state)[e];
    check_of_expert(names[e], [&] { check_settings(own, runs[e], items.train); });
    forget_other_best(validated_on(items.validation), runs[e], own);
  }
  if (!state || !is_finished(*state, config) || !has_final(config.run_dir, names)) return "";
  if (!config.experts.empty()) return last_words(*state, config, true, config.run_dir + "/experts");
  const std::string best = expert_path(config.run_dir, "best", "");
  return last_words(*state, config, true,
                    file_exists(best) ? best : expert_path(config.run_dir, "final", ""));
}

std::string start_expert(const CommandLine& line, const Config& config) {
  return line.fork.empty() ? config.train.init_from : "";
}

}  // namespace svfleet
