// Start here: every setting of svfleet, with its default at the field and one comment above it.
// docs/config.md is generated from this file's table in config.cc, and a test compares them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rl/adamw.h"
#include "rl/advantage.h"
#include "rl/task.h"
#include "worker/tokenizer/chat_format.h"

namespace svfleet {

struct ModelConfig {
  // Hugging Face folder: config.json, *.safetensors, tokenizer.json.
  std::string path;
  // Type of the weights and activations: bfloat16 or float32.
  std::string dtype = "bfloat16";
  // Where it is computed: cpu, or cuda for one NVIDIA GPU a rank.
  std::string device = "cpu";
  // Chat template by name; empty = recognise the one in the folder.
  std::string chat_template;
  // The longest sequence, prompt and reply, in tokens; 0 = what the model was first trained on.
  int64_t max_length = 0;
  // A chat format written down piece by piece instead; none where every piece is empty.
  ChatFormat chat_format;
};

struct SvdConfig {
  // Folder of the decomposed matrices; empty = <model.path>.factors beside the model.
  std::string store;
  // What is adapted: mlp, attention, all, or names such as q_proj.
  std::vector<std::string> targets = {"mlp"};
  // Layers: "all", or ranges such as "0..11,40..79".
  std::string layers = "all";
  // Which singular components of a matrix are trained: "all", "top 64" or "bottom 64".
  std::string components = "all";
  // Storage type of the singular bases Q: float32 or bfloat16.
  std::string storage = "float32";
  // Largest predicted relative error of an adapted matrix that a certificate may show.
  double tolerance = 1e-3;
};

struct TrainConfig {
  // Steps of the optimizer.
  int64_t steps = 48;
  // Seed of prompt order and sampling.
  int64_t seed = 0;
  double learning_rate = 5e-3;
  // constant or cosine.
  std::string schedule = "constant";
  int64_t warmup_steps = 0;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0;
  // Largest global norm of the gradient; 0 = no clipping.
  double clip_norm = 0;
  int64_t prompts_per_step = 8;
  int64_t samples_per_prompt = 4;
  // A chunk is the unit of work and of restart; it divides prompts_per_step. It alters no bits.
  int64_t prompts_per_chunk = 2;
  // Replies that a worker writes at a time, of several chunks; 0 = kAutoRows within kAutoRowBytes
  // (coordinator/training/in_flight.h). It alters no bits.
  int64_t rows_per_worker = 0;
  double temperature = 1.0;
  // leave_one_out, group_mean, whitened, none.
  std::string baseline = "leave_one_out";
  // sum: log-probabilities of a reply's tokens are added; otherwise divided by this many tokens.
  std::string token_reduction = "sum";
  int64_t token_reduction_length = 0;
  // policy_gradient, next_token (the log-likelihood of given texts) or es (evolution strategies).
  std::string method = "policy_gradient";
  // Which texts, for next_token: answers (of the items) or right_replies (of the base model's own).
  std::string texts = "answers";
  // es: members of a step's population, in pairs, and how far each parameter is moved in them.
  int64_t population = 32;
  double perturbation = 0.02;
  // es: members of a chunk. It alters no bits.
  int64_t members_per_chunk = 2;
  // Rewards of right and wrong replies.
  double reward_right = 1, reward_wrong = -1;
  // Weight of KL(policy || base) in the reward.
  double kl_beta = 0;
  // reward (in the reward), k2 (as a loss), full (whole vocabulary, as a loss).
  std::string kl_form = "reward";
  // How z is put in force, in sampling and gradient alike: merged or activation.
  std::string form = "merged";
  // Tokens of a group that are differentiated at once; 0 = all.
  int64_t gradient_tokens = 0;
  std::string gradient_checkpointing = "auto";
  // direct or sigmoid.
  std::string parametrisation = "direct";
  // What is trained: diagonal (SVF), block, tiny, bias, lora or ia3 (svd/core.h).
  std::string core = "diagonal";
  // Of core lora: r, and alpha; what it adds is times alpha / r.
  int64_t core_rank = 16;
  double core_alpha = 32;
  // Of core tiny: numbers that so many matrices share (0 = all).
  int64_t core_numbers = 13;
  int64_t core_tied = 0;
  // Expert file to start from; empty = the base model.
  std::string init_from;
  // Checkpoint every N steps; the last `keep_checkpoints` and the best are kept.
  int64_t checkpoint_every = 1;
  int64_t keep_checkpoints = 3;
  // Validate every N steps (0 = never) on this many items (0 = all).
  int64_t validate_every = 0;
  int64_t validation_items = 0;
  // Stop after this many validations without a better one (0 = never).
  int64_t early_stop_after = 0;
  // Measure KL(policy || base) for the log every N steps where kl_beta is 0 (0 = never).
  int64_t log_kl_every = 10;
  // Replies written to rollouts.jsonl per step.
  int64_t rollout_samples = 4;
  // Consecutive steps with a not-finite gradient that end the run.
  int64_t max_nonfinite_steps = 3;

  bool evolves() const { return method == "es"; }
  // Of prompts, or of members of a population.
  int64_t chunk_size() const { return evolves() ? members_per_chunk : prompts_per_chunk; }
  int64_t chunks_per_step() const {
    return (evolves() ? population : prompts_per_step) / chunk_size();
  }
};

struct EvaluateConfig {
  // test, validation or train.
  std::string split = "test";
  // Number of items; 0 = all.
  int64_t items = 0;
  // 0 = greedy; otherwise sampled, with the limits below.
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1, min_p = 0;
  int64_t seed = 0;
  // Replies to each item.
  int64_t samples = 1;
  // Items generated together.
  int64_t batch = 32;
};

// What files of earlier versions have instead of train.form.
struct FormerSettings {
  std::string sampling_form, gradient_form;
};

// One of several experts that one run trains on one resident model.
struct ExpertConfig {
  // Of letters, digits, - and _; its folder in RUN/experts.
  std::string name;
  std::vector<TaskSpec> tasks;  // its own, or those of the run
  TrainConfig train;            // the run's, with its own settings in their place
};

struct Config {
  ModelConfig model;
  // Everything a run writes goes here.
  std::string run_dir;
  SvdConfig svd;
  // One or several tasks, inline or as paths of task files.
  std::vector<TaskSpec> tasks;
  TrainConfig train;
  // Where a run trains several: `train` is what they share and their defaults, `tasks` are all that
  // any of them has.
  std::vector<ExpertConfig> experts;
  EvaluateConfig evaluate;
  // Chunks computed side by side by a rank; 0 = cores available / ranks on this host / threads,
  // and 1 on a GPU.
  int64_t workers = 0;
  // Threads inside one chunk; may alter bits, so it is part of a run's identity.
  int64_t threads = 1;
  // Seconds after which a rank that says nothing, or does not move, is waited for no longer.
  double timeout_s = 600;

  std::string file;  // where it came from, for messages
  FormerSettings former;
  std::vector<std::string> notes;  // what was read otherwise than it is written, for warnings
};

// Reads YAML, or the configuration of the run in a folder, and applies `key=value` overrides
// ("train.steps=5"). What a run folder has of its run is for that folder, wherever it was before.
// Relative paths inside are relative to the working directory, those inside a task file to that
// file. Errors are Error(kExitUser) like "run.yaml:12: unknown key 'lerning_rate', did you mean
// 'learning_rate'?".
// What only training uses is not checked together for other commands.
Config load_config(const std::string& file, const std::vector<std::string>& overrides,
                   bool for_training = true);

// The same from the text of a whole configuration that print_config made; `name` is for messages.
Config parse_config(const std::string& text, const std::string& name);

// The runs, one an expert, that a run of several is equal to: each with that expert's tasks and
// settings, in the same run_dir. Of a run of one: itself.
std::vector<Config> runs_of_one(const Config& config);
// Their names; of a run of one, one without a name.
std::vector<std::string> expert_names(const Config& config);

// The effective configuration as commented YAML, which load_config reads back to the same Config.
std::string print_config(const Config& config);
// The reference page docs/config.md.
std::string config_reference();
// Canonical JSON of the settings that may alter the bits of a training result, and of nothing else.
std::string bits_config(const Config& config);
// The same with those too that alter nothing as they are, such as train.steps of a constant
// schedule and settings at their default.
std::string all_bits_config(const Config& config);

}  // namespace svfleet
