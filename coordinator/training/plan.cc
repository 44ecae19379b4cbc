#include "coordinator/training/plan.h"

#include <nlohmann/json.hpp>

#include "comm/counted.h"
#include "comm/error.h"
#include "comm/random.h"
#include "coordinator/config/targets.h"
#include "coordinator/run/identity.h"
#include "coordinator/training/best.h"
#include "coordinator/training/fork.h"
#include "coordinator/training/population.h"

namespace svfleet {
namespace {

using nlohmann::json;

// Counted up whenever the same settings, data and machine give other bits than before. 2: bits
// belong to the sequence, gradients to the group.
constexpr int kEngine = 2;

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : ", ") + line;
  return text;
}

// A setting that one of the two leaves out, since there it alters nothing: with its value.
void fill_in(json& settings, const json& other, const std::optional<Config>& config) {
  if (!config) return;
  const json all = json::parse(all_bits_config(*config));
  for (const auto& [key, value] : other.items())
    if (!settings.contains(key) && all.contains(key)) settings[key] = all[key];
}

// Tasks whose items are others. A task's hash is of its settings too: with those of `before` it is
// the old one, if nothing else has changed.
std::vector<std::string> changed_data(const json& now, const json& before,
                                      const std::vector<TaskSpec>& specs,
                                      const std::vector<TaskSpec>& specs_before) {
  std::vector<std::string> changed;
  for (size_t i = 0; i < specs.size(); ++i) {
    if (now[i] == before[i]) continue;
    const TaskSpec& spec = specs[i];
    TaskSpec as_before = specs_before[i];
    as_before.train = spec.train;
    as_before.few_shot = spec.few_shot;
    try {
      if (load_task(as_before, "train").content_hash == before[i]) continue;
    } catch (const Error&) {  // it cannot be read as it was: no longer what it was
    }
    changed.push_back("data: task '" + spec.name + "' has other items than before in '" +
                      spec.train + "'" +
                      (spec.few_shot.empty() ? "" : " or '" + spec.few_shot + "'"));
  }
  return changed;
}

// What of the model has changed besides its weights, by file.
std::vector<std::string> changed_model(const json& now, const json& before, const Config& config,
                                       const std::string& config_file) {
  const std::string folder = config.model.path;
  const std::pair<const char*, std::string> files[] = {
      {"weights", "the weights of '" + folder + "', as model.dtype reads them"},
      {"config",
       "'" + folder + "/" +
           (config_file.empty() ? "config.json' or generation_config.json" : config_file + "'")},
      {"tokenizer", "'" + folder +
                        "/tokenizer.json' or tokenizer_config.json (their bytes count, " +
                        "blanks too)"},
      {"chat_template", "the chat template of '" + folder + "'"}};
  std::vector<std::string> changed;
  for (const auto& [key, what] : files)
    if (now.value(key, json()) != before.value(key, json()))
      changed.push_back("model: another " + std::string(key) + " than before: " + what);
  return changed;
}

std::string model_folder(const RunState& state) {
  const auto config = config_of(state);
  return config ? config->model.path : "";
}

std::string store_of(const RunState& state) {
  const auto config = config_of(state);
  return config ? " '" + store_folder(*config) + "'" : "";
}

// Settings and data, without what only the loaded model tells.
json settings_and_data(const Config& config, const std::vector<Task>& tasks) {
  json data = json::array();
  for (const Task& task : tasks) data.push_back(task.content_hash);
  return {{"engine", kEngine}, {"settings", json::parse(bits_config(config))}, {"data", data}};
}

json bits_of(const Config& config, const Base& base, const std::vector<Task>& training) {
  json bits = settings_and_data(config, training);
  // What turns an item into tokens, and tokens into a reply, besides the weights.
  bits["model"] = {{"weights", base.weights_hash},
                   {"config", base.hashes.config},
                   {"tokenizer", base.hashes.tokenizer},
                   {"chat_template", base.hashes.chat_template}};
  return bits;
}

}  // namespace

std::optional<Config> config_of(const RunState& state) {
  try {
    return parse_config(state.config, "the configuration in a checkpoint");
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::vector<std::string> changes(const RunState& now, const RunState& before,
                                 const std::string& words_now, const std::string& words_before) {
  if (now.bits_config == before.bits_config) return {};
  json one = json::parse(now.bits_config, nullptr, false);
  json other = json::parse(before.bits_config, nullptr, false);
  const auto known = [](const json& bits) {
    return bits.is_object() && bits.contains("settings") && bits["settings"].is_object();
  };
  std::vector<std::string> data;
  if (known(one) && known(other)) {
    const auto config = config_of(now), config_before = config_of(before);
    const json missing_here = other["settings"], missing_there = one["settings"];
    fill_in(one["settings"], missing_here, config);
    fill_in(other["settings"], missing_there, config_before);
    const size_t tasks = config ? config->tasks.size() : 0;
    if (config && config_before && config_before->tasks.size() == tasks &&
        one["data"].size() == tasks && other["data"].size() == tasks) {
      data = changed_data(one["data"], other["data"], config->tasks, config_before->tasks);
      one.erase("data");
      other.erase("data");
    }
    if (config && one.value("model", json()).is_object() &&
        other.value("model", json()).is_object()) {
      for (const std::string& line :
           changed_model(one["model"], other["model"], *config,
                         changed_config_file(now.config_shape, before.config_shape)))
        data.push_back(line);
      one.erase("model");
      other.erase("model");
    }
  }
  std::vector<std::string> all = differences(one.dump(), other.dump(), words_now, words_before);
  all.insert(all.end(), data.begin(), data.end());
  if (!all.empty()) return all;
  return differences(now.bits_config, before.bits_config, words_now, words_before);
}

namespace {

// What an older or a newer program computes differs, whatever the settings.
void check_engine(const json& before) {
  const int engine = before.value("engine", 1);
  if (engine == kEngine) return;
  throw user_error("this run was begun by ", engine < kEngine ? "an older" : "a newer",
                   " svfleet, whose engine (", engine, ", this one's is ", kEngine,
                   ") gives other bits: go on with that program, or start a child run from its "
                   "newest checkpoint: svfleet train --fork RUN --set run_dir=...");
}

[[noreturn]] void refuse_changed(const RunState& now, const RunState& before) {
  throw user_error("settings or data differ from those that this run was started with: ",
                   joined(changes(now, before, "now", "in the run")),
                   "; undo the change, or choose another run_dir for it; a run of one expert can "
                   "have a child with it: svfleet train --fork RUN --set run_dir=...");
}

}  // namespace

std::vector<ChunkPrompt> TrainingPlan::prompts(const Config& config, int64_t position,
                                               int chunk) const {
  std::vector<int64_t> sizes;
  std::vector<double> weights;
  for (const Task& task : tasks) {
    sizes.push_back(int64_t(task.items.size()));
    weights.push_back(task.spec.weight);
  }
  const PromptOrder order(uint64_t(config.train.seed), sizes, weights);
  const bool evolves = config.train.evolves();  // all prompts of the step, for each member
  const int64_t size = evolves ? config.train.prompts_per_step : config.train.prompts_per_chunk;
  const int64_t first = position + (evolves ? 0 : chunk * size);
  std::vector<ChunkPrompt> prompts;
  for (const PromptPick& pick : order.picks(first, size))
    prompts.push_back({pick.task, &tasks[pick.task].spec, &tasks[pick.task].items[pick.item],
                       first + int64_t(prompts.size())});
  return evolves ? for_members(prompts, chunk * config.train.members_per_chunk,
                               config.train.members_per_chunk)
                 : prompts;
}

RunItems read_items(const Config& config) {
  RunItems items;
  for (const TaskSpec& spec : config.tasks) items.train.push_back(load_task(spec, "train"));
  if (config.train.validate_every <= 0) return items;
  for (const TaskSpec& spec : config.tasks)
    items.validation.push_back(load_task(spec, "validation", config.train.validation_items));
  return items;
}

std::string validated_on(const std::vector<Task>& validation) {
  if (validation.empty()) return "";
  json data = json::array();
  for (const Task& task : validation) data.push_back(task.content_hash);
  return json{{"by", "score"}, {"data", data}}.dump();
}

Method method_of(const TrainConfig& train) {
  if (train.method == "policy_gradient") return Method::kPolicyGradient;
  if (train.evolves()) return Method::kEvolution;
  return train.texts == "answers" ? Method::kAnswers : Method::kRightReplies;
}

TrainingPlan make_plan(const Config& config, const Base& base, RunItems items) {
  const TrainConfig& train = config.train;
  TrainingPlan plan;
  plan.tasks = std::move(items.train);
  plan.validation = std::move(items.validation);
  plan.validated_on = validated_on(plan.validation);
  for (const Core::Part& part : base.basis->core().parts())
    plan.segment_ends.push_back(part.offset + part.length);
  plan.chunks_per_step = train.chunks_per_step();
  plan.bits = bits_of(config, base, plan.tasks).dump();

  plan.rules.tasks = plan.tasks.size();
  plan.rules.seed = uint64_t(train.seed);
  plan.rules.method = method_of(train);
  plan.rules.temperature = train.temperature;
  // One answer for each prompt.
  plan.rules.samples = plan.rules.method == Method::kAnswers ? 1 : int(train.samples_per_prompt);
  plan.rules.baseline = baseline(train.baseline);
  plan.rules.reward_right = train.reward_right;
  plan.rules.reward_wrong = train.reward_wrong;
  plan.rules.token_length =
      train.token_reduction == "sum" ? 0 : double(train.token_reduction_length);
  plan.rules.kl_beta = train.kl_beta;
  plan.rules.kl_in_reward = train.kl_form == "reward";
  plan.rules.kl_loss = train.kl_form == "k2"     ? KlLoss::kK2
                       : train.kl_form == "full" ? KlLoss::kFull
                                                 : KlLoss::kNone;
  plan.rules.gradient_tokens = train.gradient_tokens;
  plan.rules.again = train.gradient_checkpointing == "on"    ? Again::kAlways
                     : train.gradient_checkpointing == "off" ? Again::kNever
                                                             : Again::kAuto;
  plan.rollout_samples = train.rollout_samples;
  plan.rules.sampled_texts =
      int((train.rollout_samples + plan.chunks_per_step - 1) / plan.chunks_per_step);
  plan.optimizer = {train.learning_rate, train.beta1, train.beta2, train.epsilon,
                    train.weight_decay};
  return plan;
}

std::vector<ExpertPlan> plan_experts(const Config& config, const Base& base,
                                     std::vector<RunItems> items) {
  std::vector<ExpertPlan> experts;
  const std::vector<std::string> names = expert_names(config);
  for (Config& own : runs_of_one(config)) {
    const size_t e = experts.size();
    TrainingPlan plan = make_plan(own, base, std::move(items.at(e)));
    plan.rules.expert = int(e);
    experts.push_back({names[e], std::move(own), std::move(plan)});
  }
  return experts;
}

RunState first_state(const Config& config, const Base& base, const TrainingPlan& plan,
                     const std::string& identity, bool child) {
  RunState state;
  state.seed = uint64_t(config.train.seed);
  state.slots = slots(*base.basis);
  const Core& core = base.basis->core();
  const auto n = size_t(core.parameters());
  state.p = core.start();
  state.m.assign(n, 0);
  state.v.assign(n, 0);
  if (!config.train.init_from.empty() && !child) {
    const std::string& path = config.train.init_from;
    const Expert start = load_expert(path);
    state.p = core.p_of(flat_z(base, start, path));
    state.parent = z_hash(start);
  }
  state.bits_config = plan.bits;
  state.identity = identity;
  state.config = print_config(config);
  state.config_shape = base.hashes.shape;
  state.model_hash = base.model_hash;
  state.store_hash = base.store_hash;
  return state;
}

RunState first_states(const Config& config, const Base& base,
                      const std::vector<ExpertPlan>& experts, const std::string& identity) {
  RunState run;
  run.identity = identity;
  run.config = print_config(config);
  run.config_shape = base.hashes.shape;
  run.model_hash = base.model_hash;
  run.store_hash = base.store_hash;
  for (const ExpertPlan& expert : experts)
    run.experts.push_back(
        {expert.name, first_state(expert.config, base, expert.plan, identity, /*child=*/false)});
  return run;
}

namespace {

void check_model_hash(const RunState& state, const std::string& folder, const std::string& now) {
  if (state.model_hash != now)
    throw user_error("the base model '", folder, "' has changed since this run started (was ",
                     state.model_hash, ", now ", now, "); restore it, or choose another run_dir");
}

void check_bits(const RunState& state, const Config& config, const json& now, const json& before,
                const std::string& config_shape = "") {
  if (now == before) return;
  RunState asked, was = state;
  asked.config_shape = config_shape;
  asked.config = print_config(config);
  asked.bits_config = now.dump();
  was.bits_config = before.dump();
  refuse_changed(asked, was);
}

}  // namespace

void check_same_base(const RunState& state, const Config& config, const Base& base,
                     const std::vector<Task>& training, const std::string& model_hash) {
  check_model_hash(state, config.model.path, model_hash);
  json now = bits_of(config, base, training);
  json before = json::parse(state.bits_config, nullptr, false);
  if (!before.is_object() || !before["model"].is_object()) return;  // check_resumable says so
  check_engine(before);
  // Of weights that changed in memory the factors tell which.
  now["model"].erase("weights");
  before["model"].erase("weights");
  check_bits(state, config, now, before, base.hashes.shape);
}

void check_resumable(const RunState& state, const RunState& fresh, bool allow_different_hardware) {
  check_model_hash(state, model_folder(fresh), fresh.model_hash);
  if (state.store_hash != fresh.store_hash)
    throw user_error("the factor store", store_of(fresh),
                     " has changed since this run started (was ", state.store_hash, ", now ",
                     fresh.store_hash,
                     "): its z belong to the old factors; restore it, or choose another run_dir");
  if (state.bits_config != fresh.bits_config) {
    const json before = json::parse(state.bits_config, nullptr, false);
    if (before.is_object()) check_engine(before);
    refuse_changed(fresh, state);
  }
  if (state.slots != fresh.slots)
    throw user_error(
        "the adapted matrices differ from those of this run; check svd.targets and "
        "svd.layers, or choose another run_dir");
  if (state.parent != fresh.parent && !lineage(state.parent))
    throw user_error(
        "train.init_from is not the expert that this run started from; restore it, or "
        "choose another run_dir");
  if (state.identity == fresh.identity || allow_different_hardware) return;
  const std::vector<std::string> differ =
      differences(fresh.identity, state.identity, "now", "in the run");
  if (differ.size() == 1 && differ[0].starts_with("program: "))
    throw user_error("this is another build of svfleet than that of the run so far, and may give ",
                     "other bits: ", differ[0],
                     "; start the run's own build, or accept it with --allow-different-hardware");
  throw user_error(
      "this machine or build would give other bits than the run so far: ", joined(differ),
      "; resume on such a machine (on Slurm: submit --constraint), or accept it with "
      "--allow-different-hardware");
}

void check_of_expert(const std::string& name, const std::function<void()>& check) {
  try {
    check();
  } catch (const Error& error) {
    if (name.empty()) throw;
    throw Error(error.code(), "expert '" + name + "': " + error.what());
  }
}

void check_same_experts(const RunState& state, const Config& config) {
  const std::vector<std::string> now = expert_names(config), before = names_of(state);
  const auto said = [](const std::vector<std::string>& names) {
    return names.front().empty() ? "one expert, without a name" : "the experts " + joined(names);
  };
  if (now != before)
    throw user_error("the run in '", config.run_dir, "' has ", said(before),
                     ", and the configuration ", said(now),
                     ": give the same names in the same order, or choose another run_dir");
  const std::vector<Config> runs = runs_of_one(config);
  const std::vector<const RunState*> states = states_of(state);
  for (size_t e = 0; e < states.size(); ++e)
    if (states[e]->step < state.step && !is_finished(*states[e], runs[e]))
      throw user_error("expert '", now[e], "' ended after ", counted(states[e]->step, "step"),
                       " and the others have gone on to ", state.step,
                       ": it cannot go on with them; put its train.steps and "
                       "train.early_stop_after back, or train it further in a run of its own with "
                       "train.init_from");
}

void check_settings(const RunState& state, const Config& config, const std::vector<Task>& tasks) {
  json before = json::parse(state.bits_config, nullptr, false);
  if (!before.is_object()) return;  // train says so
  check_engine(before);
  before.erase("model");
  const json now = settings_and_data(config, tasks);
  check_bits(state, config, now, before);
}

}  // namespace svfleet
