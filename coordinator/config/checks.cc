// Settings that are each allowed but do not go together.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <initializer_list>
#include <system_error>

#include "checkpoints/file.h"
#include "coordinator/config/reader.h"
#include "coordinator/config/run_file.h"
#include "rl/pattern.h"
#include "svd/core.h"

namespace svfleet {
namespace {

// The line to name: an override that set one of these, else the last of them that was given, else
// the file.
std::string place_of(const Places& places, const std::string& otherwise,
                     std::initializer_list<const char*> labels) {
  std::string place = otherwise;
  bool is_override = false;
  for (const char* label : labels) {
    const auto found = places.find(label);
    if (found == places.end() || is_override) continue;
    place = found->second;
    is_override = place.rfind("--set ", 0) == 0;
  }
  return place;
}

bool is_layer_range(const std::string& text) {
  const auto number = [](const std::string& digits, int64_t* value) {
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), *value);
    return code == std::errc() && end == digits.data() + digits.size() && *value >= 0;
  };
  int64_t first = 0, last = 0;
  const size_t dots = text.find("..");
  if (dots == std::string::npos) return number(text, &first);
  return number(text.substr(0, dots), &first) && number(text.substr(dots + 2), &last) &&
         first <= last;
}

bool is_layers(const std::string& text) {
  if (text == "all") return true;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    if (!is_layer_range(text.substr(begin, end - begin))) return false;
    begin = end + 1;
  }
  return true;
}

bool trains(const std::vector<std::string>& targets, std::vector<std::string> wanted) {
  std::vector<std::string> chosen = targets;
  std::sort(chosen.begin(), chosen.end());
  std::sort(wanted.begin(), wanted.end());
  return chosen == wanted;
}

void check_core(const Config& config, const Places& places) {
  const TrainConfig& t = config.train;
  const auto at = [&](std::initializer_list<const char*> labels) {
    return place_of(places, config.file, labels);
  };
  const bool in_basis = t.core == "diagonal" || t.core == "block" || t.core == "tiny";
  if (config.svd.components != "all" && !in_basis)
    refuse(at({"svd.components", "train.core"}), "svd.components has no meaning with train.core " +
                                                     t.core +
                                                     ", which reads no components; remove it");
  if (t.parametrisation != "direct" && (t.core != "diagonal" || config.svd.components != "all"))
    refuse(at({"train.parametrisation", "train.core", "svd.components"}),
           "train.parametrisation " + t.parametrisation +
               " is of train.core diagonal with all svd.components; remove it");
  if (t.core == "tiny" && config.svd.components == "all")
    refuse(at({"svd.components", "train.core"}),
           "train.core tiny needs svd.components, such as top 2: its blocks are dense");
  if (t.core == "bias" && !trains(config.svd.targets, {"down_proj"}))
    refuse(at({"svd.targets", "train.core"}),
           "train.core bias adds to each layer's output: set svd.targets to [down_proj]");
  if (t.core == "ia3" && !trains(config.svd.targets, {"k_proj", "v_proj", "down_proj"}))
    refuse(at({"svd.targets", "train.core"}),
           "train.core ia3 scales keys, values and the MLP's inner activations: set svd.targets to "
           "[k_proj, v_proj, down_proj]");
  const TrainConfig usual;
  if (t.core != "lora" && (t.core_rank != usual.core_rank || t.core_alpha != usual.core_alpha))
    refuse(at({"train.core_rank", "train.core_alpha", "train.core"}),
           "train.core_rank and train.core_alpha have no effect without train.core lora");
  if (t.core != "tiny" && (t.core_numbers != usual.core_numbers || t.core_tied != usual.core_tied))
    refuse(at({"train.core_numbers", "train.core_tied", "train.core"}),
           "train.core_numbers and train.core_tied have no effect without train.core tiny");
}

// Of evolution strategies.
void check_population(const Config& config, const Places& places) {
  const TrainConfig& t = config.train;
  const auto at = [&](std::initializer_list<const char*> labels) {
    return place_of(places, config.file, labels);
  };
  if (!t.evolves()) {
    const TrainConfig defaults;
    const bool population = t.population != defaults.population;
    if (population || t.perturbation != defaults.perturbation)
      refuse(at({population ? "train.population" : "train.perturbation", "train.method"}),
             std::string(population ? "train.population" : "train.perturbation") +
                 " has no effect without train.method es");
    return;
  }
  if (t.population % 2 != 0)
    refuse(at({"train.population"}), "train.population (" + std::to_string(t.population) +
                                         ") must be even: its members are pairs");
  if (t.population % t.members_per_chunk != 0)
    refuse(at({"train.population", "train.members_per_chunk"}),
           "train.members_per_chunk (" + std::to_string(t.members_per_chunk) +
               ") must divide train.population (" + std::to_string(t.population) + ")");
  if (t.prompts_per_step < 4)
    refuse(at({"train.prompts_per_step"}),
           "train.prompts_per_step must be at least 4 with train.method es: what a member gets for "
           "fewer prompts says little of it");
  if (t.form != "activation")
    refuse(at({"train.form", "train.method"}),
           "train.method es runs its members beside each other, which one merged copy of the "
           "weights cannot; set train.form to activation");
  if (t.kl_beta > 0)
    refuse(at({"train.kl_beta", "train.method"}),
           "train.kl_beta has no meaning with train.method es, whose fitness is the reward alone; "
           "set it to 0 (train.weight_decay pulls z to 1)");
}

void check_train(const Config& config, const Places& places) {
  const TrainConfig& t = config.train;
  const auto at = [&](std::initializer_list<const char*> labels) {
    return place_of(places, config.file, labels);
  };
  check_population(config, places);
  if (!t.evolves() && t.prompts_per_step % t.prompts_per_chunk != 0)
    refuse(at({"train.prompts_per_step", "train.prompts_per_chunk"}),
           "train.prompts_per_chunk (" + std::to_string(t.prompts_per_chunk) +
               ") must divide train.prompts_per_step (" + std::to_string(t.prompts_per_step) + ")");
  if (t.samples_per_prompt < 2 && t.baseline != "none" && t.method == "policy_gradient")
    refuse(at({"train.baseline", "train.samples_per_prompt"}),
           "train.samples_per_prompt must be at least 2 with train.baseline " + t.baseline +
               ", which compares the replies of one prompt");
  if (t.method == "next_token" && t.kl_beta > 0 && t.kl_form == "reward")
    refuse(
        at({"train.kl_form", "train.kl_beta", "train.method"}),
        "train.kl_form reward needs rewards that are trained on, and train.method next_token has "
        "none; set train.kl_form to k2 or full, or train.kl_beta to 0");
  if (t.method != "next_token" && t.texts != "answers")
    refuse(at({"train.texts", "train.method"}),
           "train.texts " + t.texts + " has no effect without train.method next_token");
  if (t.token_reduction == "mean" && t.token_reduction_length == 0)
    refuse(at({"train.token_reduction_length", "train.token_reduction"}),
           "train.token_reduction mean needs train.token_reduction_length above 0, the number of "
           "tokens to divide by");
  if (t.token_reduction == "sum" && t.token_reduction_length != 0)
    refuse(at({"train.token_reduction", "train.token_reduction_length"}),
           "train.token_reduction_length has no meaning with train.token_reduction sum; remove it "
           "or set train.token_reduction to mean");
  if (t.kl_form != "reward" && t.kl_beta == 0)
    refuse(at({"train.kl_beta", "train.kl_form"}),
           "train.kl_form " + t.kl_form +
               " has no effect while train.kl_beta is 0; set "
               "train.kl_beta");
  if (t.early_stop_after > 0 && t.validate_every == 0)
    refuse(at({"train.validate_every", "train.early_stop_after"}),
           "train.early_stop_after needs train.validate_every above 0");
  if (t.warmup_steps > t.steps)
    refuse(at({"train.steps", "train.warmup_steps"}),
           "train.warmup_steps (" + std::to_string(t.warmup_steps) +
               ") must not exceed train.steps (" + std::to_string(t.steps) + ")");
  if (t.reward_right <= t.reward_wrong)
    refuse(at({"train.reward_right", "train.reward_wrong"}),
           "train.reward_right must be above train.reward_wrong");
  if (t.validate_every > 0)
    for (const auto& task : config.tasks)
      if (task.validation.empty())
        refuse(at({"train.validate_every"}),
               "train.validate_every needs a validation split, and "
               "task '" +
                   shown(task.name) + "' has none");
}

// Somebody who is elsewhere than they think: nothing is relative to the run's file. Where the path
// may be meant from: beside that file, a folder above it, as a run lies below the directory in
// which it was begun, or that directory, wherever the run is now.
void check_place(const Config& config, const std::string& what, const std::string& path,
                 const std::string& where) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (path.empty() || fs::path(path).is_absolute() || fs::exists(path, ignored) ||
      !fs::exists(config.file, ignored))
    return;
  const fs::path beside = fs::path(config.file).parent_path();
  std::vector<fs::path> folders;
  if (!beside.empty()) folders.push_back(beside);
  for (fs::path up = resolved_path(config.file); up.has_relative_path(); up = up.parent_path())
    folders.push_back(up.parent_path());
  if (const std::string run = run_folder_of(config.file); !run.empty())
    folders.push_back(begun_in(run));
  for (const fs::path& folder : folders)
    if (!folder.empty() && fs::exists(folder / path, ignored))
      refuse(where, what + " '" + shown(path) +
                        "' does not exist in the working directory, but in '" + folder.string() +
                        "': paths are relative to the working directory; start svfleet there, or "
                        "write the path from here");
}

// What svfleet writes must not lie among files of another kind.
void check_folders(const Config& config, const Places& places) {
  // One that is there already serves on.
  if (config.svd.store.empty() || file_exists(config.svd.store + "/store.json")) return;
  const std::string store = resolved_path(config.svd.store);
  const auto same = [&](const std::string& other, const std::string& what) {
    if (store == resolved_path(other))
      refuse(place_of(places, config.file, {"svd.store"}),
             "svd.store is " + what + " '" + shown(other) +
                 "'; the decomposed matrices need a folder of their own");
  };
  same(config.model.path, "the model's folder");
  same(config.run_dir, "run_dir");
}

// Of ASCII, and U+0080 to U+009F.
bool has_control(const std::string& text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7F) return true;
    if (byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0)
      return true;
  }
  return false;
}

}  // namespace

void check_task(const TaskSpec& task, const std::string& label, const std::string& where,
                const Places& places) {
  const auto at = [&](const std::string& key) {
    const auto found = places.find(label + key);
    return found != places.end() ? found->second : where;
  };
  if (task.rewards.empty())
    refuse(where, label +
                      "reward is missing: say what counts as right, such as reward: "
                      "last_number");
  if (task.train.empty() && task.validation.empty() && task.test.empty())
    refuse(where, "the task has no data: give " + label + "train, validation or test");
  if (task.name.empty()) refuse(at("name"), label + "name must not be empty");
  if (has_control(task.name))
    refuse(at("name"), label + "name '" + shown(task.name) +
                           "' holds a control character, such as a tab or a line end: give a name "
                           "of one line, since tables and logs show it");
  if (task.prompt.empty()) refuse(at("prompt"), label + "prompt must not be empty");
  if (task.answer.empty()) refuse(at("answer"), label + "answer must not be empty");
  if (task.few_shot.empty() && (task.few_shot_count > 0 || !task.few_shot_answer.empty()))
    refuse(at(task.few_shot_count > 0 ? "few_shot.count" : "few_shot.answer"),
           label + "few_shot.file is missing");
  for (const auto& stop : task.stop)
    if (stop.empty()) refuse(at("stop"), label + "stop must not hold an empty text");
  for (const auto& token : task.stop_tokens)
    if (token.empty()) refuse(at("stop_tokens"), label + "stop_tokens must not hold an empty text");
  for (const RewardSpec& reward : task.rewards) {  // again, for overrides of one setting
    const bool is_regex = reward.kind == RewardKind::kRegex;
    if (is_regex == reward.pattern.empty())
      refuse(at("rewards"), label + "rewards: a pattern belongs to kind: regex, which needs one");
    std::string problem = is_regex ? pattern_problem(reward.pattern) : "";
    if (problem.empty()) problem = reward_problem_of_kind(reward);
    if (!problem.empty()) refuse(at("rewards"), label + "rewards: " + problem);
  }
}

namespace {

void check_chat(const Config& config, const Places& places) {
  const ChatFormat& format = config.model.chat_format;
  if (!is_given(format)) return;
  const std::string where = place_of(
      places, config.file,
      {"model.chat_format.begin", "model.chat_format.answer", "model.chat_format.default_system",
       "model.chat_format.system", "model.chat_format.user", "model.chat_format.assistant"});
  if (!config.model.chat_template.empty())
    refuse(where, "model.chat_format and model.chat_template exclude each other; give one");
  if (const std::string problem = chat_format_problem(format); !problem.empty())
    refuse(where, "model.chat_format." + problem);
}

}  // namespace

void check_config(const Config& config, const Places& places, bool for_training) {
  if (config.model.path.empty())
    refuse(config.file, "model.path is missing: the folder of the language model");
  if (config.run_dir.empty())
    refuse(config.file, "run_dir is missing: the folder that a run writes into");
  if (config.tasks.empty() && config.experts.empty())
    refuse(config.file, "task is missing: the path of a task file, or a task");
  if (!is_layers(config.svd.layers))
    refuse(place_of(places, config.file, {"svd.layers"}),
           "svd.layers must be all, or layers and ranges such as 0..11,40..79, got '" +
               shown(config.svd.layers) + "'");
  Components components;
  if (!read_components(config.svd.components, &components))
    refuse(place_of(places, config.file, {"svd.components"}),
           "svd.components must be all, or so many at an end such as top 64 or bottom 64, got '" +
               shown(config.svd.components) + "'");
  check_chat(config, places);
  if (!config.experts.empty()) return check_experts(config, places, for_training);
  const bool several = config.tasks.size() > 1;
  for (size_t i = 0; i < config.tasks.size(); ++i) {
    const std::string name = several ? "task." + std::to_string(i) : "task";
    const auto entry = places.find(name);
    check_task(config.tasks[i], name + ".",
               entry != places.end() ? entry->second : place_of(places, config.file, {"task"}),
               places);
    const TaskSpec& task = config.tasks[i];
    for (const std::string& file : {task.train, task.validation, task.test, task.few_shot})
      if (task.file.empty())
        check_place(config, name + ": file", file,
                    entry != places.end() ? entry->second : config.file);
    for (size_t j = 0; j < i; ++j)
      if (config.tasks[i].name == config.tasks[j].name)
        refuse(entry != places.end() ? entry->second : config.file,
               "two tasks have the name '" + shown(config.tasks[i].name) + "'; give one a name");
  }
  if (config.evaluate.samples > 1 && config.evaluate.temperature == 0)
    refuse(place_of(places, config.file, {"evaluate.temperature", "evaluate.samples"}),
           "evaluate.samples " + std::to_string(config.evaluate.samples) +
               " needs evaluate.temperature above 0: greedy replies to one item are all the same");
  check_folders(config, places);
  check_place(config, "model.path", config.model.path,
              place_of(places, config.file, {"model.path"}));
  if (!for_training) return;
  check_place(config, "train.init_from", config.train.init_from,
              place_of(places, config.file, {"train.init_from"}));
  check_train(config, places);
  check_core(config, places);
}

}  // namespace svfleet
