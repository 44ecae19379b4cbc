#include "coordinator/training_plan.h"

#include <nlohmann/json.hpp>

#include "checkpoints/hash.h"
#include "comm/error.h"
#include "coordinator/fork.h"
#include "coordinator/identity.h"
#include "rl/random.h"

namespace svfleet {
namespace {

using nlohmann::json;

std::string differing(const std::string& now, const std::string& before) {
  std::string text;
  for (const std::string& line : differences(now, before, "now", "in the run"))
    text += (text.empty() ? "" : ", ") + line;
  return text;
}

std::string chat_hash(const Base& base) {
  if (!base.chat) return "none";
  return hash_bytes(base.chat->name() + base.chat->render({{"user", "question"}}));
}

Apply gradient_form(const std::string& name) {
  return name == "merged" ? Apply::kClosedForm : Apply::kActivation;
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
  const int64_t first = position + chunk * config.train.prompts_per_chunk;
  std::vector<ChunkPrompt> prompts;
  for (const PromptPick& pick : order.picks(first, config.train.prompts_per_chunk))
    prompts.push_back({pick.task, &tasks[pick.task].spec, &tasks[pick.task].items[pick.item],
                       first + int64_t(prompts.size())});
  return prompts;
}

TrainingPlan make_plan(const Config& config, const Base& base) {
  const TrainConfig& train = config.train;
  TrainingPlan plan;
  json data = json::array();
  for (const TaskSpec& spec : config.tasks) {
    plan.tasks.push_back(load_task(spec, "train"));
    data.push_back(plan.tasks.back().content_hash);
    if (train.validate_every > 0) {
      plan.validation.push_back(load_task(spec, "validation", train.validation_items));
    }
  }
  for (const Target& target : base.model->targets())
    plan.segment_ends.push_back(target.offset + target.length());
  plan.chunks_per_step = train.prompts_per_step / train.prompts_per_chunk;
  // What turns an item into tokens, and tokens into a reply, besides the weights.
  const json model = {{"weights", base.weights_hash},
                      {"config", base.model->architecture().content_hash()},
                      {"tokenizer", base.tokenizer->content_hash()},
                      {"chat_template", chat_hash(base)}};
  plan.bits =
      json{{"settings", json::parse(bits_config(config))}, {"data", data}, {"model", model}}.dump();
  plan.parametrisation = parametrisation(train.parametrisation);

  plan.rules.seed = uint64_t(train.seed);
  plan.rules.temperature = train.temperature;
  plan.rules.samples = int(train.samples_per_prompt);
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
  plan.rules.gradient = gradient_form(train.gradient_form);
  plan.rules.sampled_texts =
      int((train.rollout_samples + plan.chunks_per_step - 1) / plan.chunks_per_step);
  plan.optimizer = {train.learning_rate, train.beta1, train.beta2, train.epsilon,
                    train.weight_decay};
  return plan;
}

RunState first_state(const Config& config, const Base& base, const TrainingPlan& plan,
                     const std::string& identity, bool child) {
  RunState state;
  state.seed = uint64_t(config.train.seed);
  state.slots = slots(*base.model);
  const size_t n = size_t(total_length(base.model->targets()));
  state.p.assign(n, 0);
  state.m.assign(n, 0);
  state.v.assign(n, 0);
  if (!config.train.init_from.empty() && !child) {
    const std::string& path = config.train.init_from;
    const Expert start = load_expert(path);
    state.p = p_of(plan.parametrisation, base.model->targets(), flat_z(base, start, path),
                   base.model->sigmas());
    state.parent = z_hash(start);
  }
  state.bits_config = plan.bits;
  state.identity = identity;
  state.config = print_config(config);
  state.model_hash = base.model_hash;
  state.store_hash = base.store_hash;
  return state;
}

void check_resumable(const RunState& state, const RunState& fresh, bool allow_different_hardware) {
  if (state.model_hash != fresh.model_hash)
    throw user_error("the base model has changed since this run started (was ", state.model_hash,
                     ", now ", fresh.model_hash, "); restore it, or choose another run_dir");
  if (state.store_hash != fresh.store_hash)
    throw user_error("the factor store has changed since this run started (was ", state.store_hash,
                     ", now ", fresh.store_hash,
                     "): its z belong to the old factors; restore it, or choose another run_dir");
  if (state.bits_config != fresh.bits_config)
    throw user_error("settings or data differ from those that this run was started with: ",
                     differing(fresh.bits_config, state.bits_config),
                     "; undo the change, or start a child run with it: svfleet train --fork RUN "
                     "--set run_dir=...");
  if (state.slots != fresh.slots)
    throw user_error(
        "the adapted matrices differ from those of this run; check svd.targets and "
        "svd.layers, or choose another run_dir");
  if (state.parent != fresh.parent && !lineage(state.parent))
    throw user_error(
        "train.init_from is not the expert that this run started from; restore it, or "
        "choose another run_dir");
  if (state.identity != fresh.identity && !allow_different_hardware)
    throw user_error(
        "this machine or build would give other bits than the run so far: ",
        differing(fresh.identity, state.identity),
        "; resume on such a machine (on Slurm: submit --constraint), or accept it with "
        "--allow-different-hardware");
}

}  // namespace svfleet
