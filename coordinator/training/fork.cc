#include "coordinator/training/fork.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <sstream>

#include "checkpoints/file.h"
#include "checkpoints/run_checkpoint.h"
#include "comm/counted.h"
#include "comm/error.h"
#include "coordinator/config/run_file.h"
#include "coordinator/config/targets.h"
#include "coordinator/run/identity.h"
#include "coordinator/training/plan.h"

namespace svfleet {
namespace {

using nlohmann::json;

// Empty when the folder holds no run.
std::string run_id_of(const std::string& run_dir) {
  const auto run = read_run_file(run_dir);
  return run ? run->run_id : "";
}

// The parent as run.json has it, also as RUN@STEP; empty when the run is no child.
struct Recorded {
  std::string run_dir, point;
};
Recorded recorded_parent(const std::string& run_dir) {
  const auto run = read_run_file(run_dir);
  if (!run) return {};
  return {run->parent_run_dir, run->parent_run_dir + "@" + std::to_string(run->parent_step)};
}

std::string given_run_dir(const CommandLine& line) {
  const std::string key = "run_dir=";
  std::string value;
  for (const std::string& setting : line.overrides)
    if (setting.rfind(key, 0) == 0) value = setting.substr(key.size());
  return value;
}

bool has_checkpoints(const std::string& run_dir) {
  return !checkpoint_steps(run_dir).empty();
}

[[noreturn]] void refuse_no_step(const ForkPoint& point, const std::vector<int64_t>& steps) {
  std::string list;
  for (const int64_t step : steps) list += (list.empty() ? "" : ", ") + std::to_string(step);
  throw user_error("--fork: '", point.run_dir, "' has no checkpoint of step ", *point.step,
                   list.empty() ? "; it has none at all" : "; it has those of steps " + list);
}

[[noreturn]] void refuse_no_checkpoint(const ForkPoint& point) {
  throw user_error("--fork: '", point.run_dir,
                   "/checkpoints' holds no good checkpoint; train the parent first");
}

void check_steps_left(int64_t of_parent, const TrainConfig& train) {
  if (of_parent >= train.steps)
    throw user_error("--fork: the parent's checkpoint has ", counted(of_parent, "step"),
                     " and train.steps is ", train.steps,
                     ": nothing is left to do; raise train.steps, or fork from an earlier step "
                     "with RUN@STEP");
}

// Damaged checkpoints are passed over in silence: the parent says so itself when it goes on.
RunState parent_state(const ForkPoint& point) {
  if (!point.step) {
    NewestCheckpoint newest = load_newest_checkpoint(point.run_dir);
    if (newest.state) return std::move(*newest.state);
    refuse_no_checkpoint(point);
  }
  const std::vector<int64_t> steps = checkpoint_steps(point.run_dir);
  if (std::find(steps.begin(), steps.end(), *point.step) == steps.end())
    refuse_no_step(point, steps);
  return load_checkpoint(point.run_dir, *point.step);
}

// What the names of the parent's checkpoints tell, before the child's folder is made.
void check_point(const ForkPoint& point, const TrainConfig& train) {
  const std::vector<int64_t> steps = checkpoint_steps(point.run_dir);
  if (point.step && std::find(steps.begin(), steps.end(), *point.step) == steps.end())
    refuse_no_step(point, steps);
  if (steps.empty()) refuse_no_checkpoint(point);
  if (point.step)
    check_steps_left(*point.step, train);
  else if (steps.back() >= train.steps)  // unless that one is damaged
    check_steps_left(parent_state(point).step, train);
}

std::string described(const std::string& parent) {
  if (const auto from = lineage(parent))
    return "a child of run " + from->run_id + ", step " + std::to_string(from->step);
  return "a run of its own";
}

// Rank 0: the run in the folder has a checkpoint; is it the child that --fork means?
void check_child(const ForkPoint& point, const RunFolder& folder, const RunState& found) {
  const auto from = lineage(found.parent);
  bool same = from && (!point.step || *point.step == from->step);
  if (same) {
    const std::string id = run_id_of(point.run_dir);
    // Of a parent that was removed only the place is left.
    same = id.empty() ? recorded_parent(folder.path()).run_dir == resolved_path(point.run_dir)
                      : id == from->run_id;
  }
  if (!same)
    throw user_error("run_dir '", folder.path(), "' is ", described(found.parent),
                     ", not the child of '", point.run_dir, "'",
                     point.step ? " at step " + std::to_string(*point.step) : "",
                     "; choose another run_dir, or leave out --fork to go on with it");
}

json setting(const std::string& bits, const char* name) {
  const json all = json::parse(bits, nullptr, false);
  return all.is_object() && all.contains("settings") ? all["settings"].value(name, json()) : json();
}

// The settings that say what the numbers of p stand for: of others there may be as many.
using Settings = std::vector<std::pair<const char*, std::string>>;
Settings core_settings(const Config& config) {
  const CoreOptions core = core_of(config);
  Settings all = {{"train.core", core_name(core.kind)},
                  {"svd.components", components_text(core.components)},
                  {"train.core_rank", std::to_string(core.rank)},
                  {"train.core_alpha", json(core.alpha).dump()},
                  {"train.core_numbers", std::to_string(core.numbers)},
                  {"train.core_tied", std::to_string(core.tied)}};
  if (core.kind == CoreKind::kTiny)  // it keys the fixed matrices that the numbers are shares of
    all.emplace_back("train.seed", std::to_string(core.seed));
  return all;
}

}  // namespace

ForkPoint fork_point(const std::string& text) {
  ForkPoint point{text, std::nullopt};
  const size_t at = text.rfind('@');
  if (at != std::string::npos) {
    int64_t step = -1;
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + at + 1, end, step);
    if (parsed.ec == std::errc() && parsed.ptr == end && step >= 0)
      point = {text.substr(0, at), step};
  }
  while (point.run_dir.size() > 1 && point.run_dir.back() == '/') point.run_dir.pop_back();
  return point;
}

std::string Lineage::text() const {
  return run_id + " step " + std::to_string(step) + " " + state_hash;
}

std::optional<Lineage> lineage(const std::string& parent) {
  Lineage from;
  std::string word;
  std::istringstream in(parent);
  if (in >> from.run_id >> word >> from.step >> from.state_hash && word == "step") return from;
  return std::nullopt;
}

std::string config_file(const CommandLine& line) {
  if (!line.config_file.empty() || line.fork.empty()) return line.config_file;
  const ForkPoint point = fork_point(line.fork);
  const std::string of_parent = configuration_of(point.run_dir), child = given_run_dir(line);
  if (child.empty())
    throw user_error("--fork without CONFIG takes the parent's settings, its run folder too; give ",
                     "the child one of its own with --set run_dir=...");
  if (!of_parent.empty()) return of_parent;
  if (const std::string own = configuration_of(child); !own.empty()) return own;
  throw user_error("--fork: '", point.run_dir,
                   run_id_of(point.run_dir).empty()
                       ? "' is not a run folder, it has no run.json; give RUN or RUN@STEP"
                       : "' has no effective.yaml, the configuration with which it began; put it "
                         "back from a copy, or give a CONFIG");
}

void check_fork(const CommandLine& line, const Config& config) {
  if (line.fork.empty()) return;
  const ForkPoint point = fork_point(line.fork);
  const auto parent = read_run_file(point.run_dir);
  if (!config.experts.empty() || (parent && parent->experts.size() > 1))
    throw user_error("--fork is for runs of one expert, and ",
                     config.experts.empty() ? "'" + point.run_dir + "' has several"
                                            : "the configuration has several",
                     "; start each from an expert of a run with its train.init_from");
  if (resolved_path(point.run_dir) == resolved_path(config.run_dir))
    throw user_error("--fork: run_dir '", config.run_dir,
                     "' is the parent's own folder; give the child another one with --set "
                     "run_dir=...");
  if (run_id_of(point.run_dir).empty()) {
    if (has_checkpoints(config.run_dir)) return;  // the child is older than the parent's end
    throw user_error("--fork: '", point.run_dir,
                     "' is not a run folder, it has no run.json; give RUN or RUN@STEP");
  }
  if (!has_checkpoints(config.run_dir)) check_point(point, config.train);
  if (config.train.init_from.empty()) return;
  const std::string of_parent = configuration_of(point.run_dir);
  if (of_parent.empty() || load_config(of_parent, {}).train.init_from != config.train.init_from)
    throw user_error("train.init_from '", config.train.init_from,
                     "' is for new runs, a fork starts from the parent's checkpoint; leave one of "
                     "the two out");
}

std::optional<Fork> open_fork(const CommandLine& line, const RunFolder& folder,
                              const std::optional<RunState>& found, Crew& crew) {
  const bool forks = !line.fork.empty();
  std::string told;
  if (crew.leads()) {
    if (found && forks) check_child(fork_point(line.fork), folder, *found);
    const Recorded parent = found || forks ? Recorded{} : recorded_parent(folder.path());
    if (!parent.run_dir.empty())
      throw user_error("run_dir '", folder.path(), "' is a child of '", parent.run_dir,
                       "' that has not begun; give --fork ", parent.point,
                       ", or choose another run_dir");
  }
  if (found || !forks) return std::nullopt;
  Fork fork;
  if (crew.leads()) {
    const ForkPoint point = fork_point(line.fork);
    const std::string id = run_id_of(point.run_dir);
    if (id.empty())
      throw user_error("--fork: '", point.run_dir,
                       "' is not a run folder any more; it was removed");
    told = id + "\n" + resolved_path(point.run_dir) + "\n" + encode_state(parent_state(point));
  }
  crew.group().broadcast(told, 0, "broadcast the parent's checkpoint");
  const size_t id_end = told.find('\n'), dir_end = told.find('\n', id_end + 1);
  fork.run_dir = told.substr(id_end + 1, dir_end - id_end - 1);
  fork.parent = decode_state(told.substr(dir_end + 1), "the parent's checkpoint from rank 0");
  fork.from = {told.substr(0, id_end), fork.parent.step, state_hash(fork.parent)};
  return fork;
}

namespace {

[[noreturn]] void refuse_parent(const Fork& fork, const std::string& what) {
  throw user_error("--fork: ", what, ", and what the parent '", fork.run_dir,
                   "' has learnt would mean nothing there; undo that, or start a new run without "
                   "--fork");
}

}  // namespace

void check_same_model(const Fork& fork, const std::string& folder, const std::string& model_hash) {
  if (fork.parent.model_hash != model_hash)
    refuse_parent(fork, "the base model in '" + folder + "' is " + model_hash + ", not " +
                            fork.parent.model_hash);
}

RunState child_state(const Fork& fork, RunState fresh, const TrainConfig& train) {
  const RunState& parent = fork.parent;
  const auto refuse = [&](const std::string& what) { refuse_parent(fork, what); };
  if (const auto of_parent = config_of(parent)) {
    // Where the cores differ that comes first, and else they have the same settings.
    const Settings now = core_settings(parse_config(fresh.config, "the configuration")),
                   before = core_settings(*of_parent);
    for (size_t i = 0; i < now.size(); ++i)
      if (now[i] != before[i])
        refuse(std::string(now[i].first) + " is " + now[i].second + ", not " + before[i].second);
  }
  if (parent.slots != fresh.slots) refuse("svd.targets or svd.layers choose other matrices");
  if (parent.store_hash != fresh.store_hash)
    refuse("the factor store '" + store_folder(parse_config(fresh.config, "the configuration")) +
           "' is " + fresh.store_hash + ", not " + parent.store_hash);
  const char* const key = "train.parametrisation";
  if (setting(parent.bits_config, key) != setting(fresh.bits_config, key))
    refuse("train.parametrisation is " + setting(fresh.bits_config, key).dump() + ", not " +
           setting(parent.bits_config, key).dump());
  check_steps_left(parent.step, train);
  fresh.step = parent.step;
  fresh.position = parent.step * train.prompts_per_step;
  fresh.p = parent.p;
  fresh.m = parent.m;
  fresh.v = parent.v;
  fresh.updates = parent.updates;
  fresh.nonfinite_total = parent.nonfinite_total;
  fresh.parent = fork.from.text();
  return fresh;
}

json record_parent(const Fork& fork, const RunState& child, const RunFolder& folder) {
  folder.verify_owner();
  json run = read_run_file(folder.path()).value().all;
  run["parent"] = {{"run_dir", fork.run_dir},
                   {"run_id", fork.from.run_id},
                   {"step", fork.from.step},
                   {"state_hash", fork.from.state_hash}};
  run["changed"] = changes(child, fork.parent, "now", "in the parent");
  write_file_atomic(folder.path() + "/run.json", run.dump(1) + "\n");
  return {{"parent", run["parent"]}, {"changed", run["changed"]}};
}

}  // namespace svfleet
