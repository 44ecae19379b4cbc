// The training run, top to bottom: prompts -> chunks -> rollouts -> rewards -> z gradient -> exact
// sum -> step -> checkpoint. Restartable after a kill at any point of it.
#include <spdlog/spdlog.h>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/journal.h"
#include "cluster/deadline.h"
#include "cluster/exit_report.h"
#include "cluster/signals.h"
#include "cluster/slurm.h"
#include "comm/error.h"
#include "comm/exact_sum.h"
#include "coordinator/base.h"
#include "coordinator/chunk.h"
#include "coordinator/commands.h"
#include "coordinator/crew.h"
#include "coordinator/evaluation.h"
#include "coordinator/identity.h"
#include "coordinator/policy.h"
#include "coordinator/progress.h"
#include "coordinator/run_folder.h"
#include "coordinator/run_log.h"
#include "coordinator/step_record.h"
#include "coordinator/training_plan.h"
#include "worker/threads.h"

namespace svfleet {
namespace {

using nlohmann::json;

// |log pi_sample - log pi_train| per token; bfloat16 forms differ by about 0.03.
constexpr double kMismatchWarning = 0.1;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Trainer {
  const Config& config;
  Crew& crew;
  Base& base;
  RunFolder& folder;
  const TrainingPlan& plan;
  RunLog* log;  // rank 0 only
  Deadline& deadline;

  RunState state;
  Policy policy;
  std::map<std::string, double> seconds;           // of the current step, by phase
  std::string note;                                // on the last step, beside the progress
  double longest_chunk_s = 0, longest_save_s = 0;  // of this rank

  template <class Work>
  auto timed(const char* phase, Work work) {
    const double start = now_s();
    struct Stop {
      double start;
      double& total;
      ~Stop() { total += now_s() - start; }
    } stop{start, seconds[phase]};
    return work();
  }

  std::vector<float> z() const {
    return z_of(plan.parametrisation, base.model->targets(), state.p, base.model->sigmas());
  }

  void put_in_force() {
    timed("merge",
          [&] { policy = enforce(base, crew, z(), config.train.sampling_form == "merged"); });
  }

  // As if a signal had come.
  void stop_if_time_is_short() {
    if (deadline.time_is_short(longest_chunk_s, longest_save_s)) request_stop();
  }

  // The step's chunks: restored from the journal, or computed by whoever is free. Nothing when a
  // stop was asked for.
  std::optional<std::vector<FinishedChunk>> chunks(Progress& progress) {
    std::vector<FinishedChunk> own;
    std::vector<int> missing;
    if (crew.leads()) {
      std::vector<std::string> ignored;
      own = read_chunks(folder.path(), folder.run_id(), state.step, policy.hash, &ignored);
      for (const std::string& line : ignored) spdlog::warn("chunk not used: {}", line);
      if (!own.empty())
        spdlog::info("step {}: {} finished chunks restored", state.step, own.size());
      for (int c = 0; c < plan.chunks_per_step; ++c)
        if (std::none_of(own.begin(), own.end(),
                         [&](const FinishedChunk& chunk) { return chunk.chunk == c; }))
          missing.push_back(c);
    }
    const int64_t restored = int64_t(own.size());
    ChunkRules rules = plan.rules;
    rules.run_id = folder.run_id();
    rules.step = state.step;
    const int64_t every = config.train.log_kl_every;
    rules.measure_kl = every > 0 && state.step % every == 0;
    std::mutex mutex;
    stop_if_time_is_short();
    bool done = crew.share(
        missing, "chunks",
        [&](int c) {
          const double start = now_s();
          FinishedChunk chunk =
              compute_chunk(base, policy, rules, c, plan.prompts(config, state.step, c));
          write_chunk(folder.path(), chunk);
          std::lock_guard lock(mutex);
          own.push_back(std::move(chunk));
          longest_chunk_s = std::max(longest_chunk_s, now_s() - start);
          stop_if_time_is_short();
        },
        [&](int64_t finished) {
          progress.update(state.step * plan.chunks_per_step + restored + finished, note);
        });
    if (!done) return std::nullopt;
    // The hash is made anew from today's p: an update that never reached the policy shows here.
    const std::string today = z_hash(as_expert(*base.model, z()));
    for (const FinishedChunk& chunk : own) check_receipt(chunk, state.step, today);
    return own;
  }

  // The exact sum over all chunks of all ranks, and the optimizer's step.
  void step(const std::vector<FinishedChunk>& own, StepRecord& record) {
    std::vector<std::span<const float>> terms;
    for (const FinishedChunk& chunk : own) terms.push_back(chunk.gradient);
    ExactTotal total = timed("reduce", [&] {
      return exact_sum(terms, plan.segment_ends, plan.chunks_per_step, crew.group());
    });
    state.position += config.train.prompts_per_step;
    record.finite = total.finite;
    if (!total.finite) {
      ++state.nonfinite_in_a_row;
      ++state.nonfinite_total;
      return;
    }
    state.nonfinite_in_a_row = 0;
    if (record.trained_groups == 0 || record.counted == 0) return;  // no signal: no optimizer call
    for (double& dz : total.sum) dz /= double(record.counted);
    std::vector<float> gradient = chain_to_p(plan.parametrisation, base.model->targets(), state.p,
                                             total.sum, base.model->sigmas());
    record.gradient_norm = clip_global_norm(gradient, config.train.clip_norm);
    AdamWOptions options = plan.optimizer;
    options.learning_rate *= schedule_factor(schedule(config.train.schedule), state.step,
                                             config.train.steps, config.train.warmup_steps);
    record.learning_rate = options.learning_rate;
    adamw_step(options, state.updates, state.p, state.m, state.v, gradient);
    ++state.updates;
  }

  // False when a stop was asked for.
  bool validate() {
    const int64_t every = config.train.validate_every;
    if (every <= 0 || (state.step % every != 0 && state.step != config.train.steps)) return true;
    std::optional<Evaluation> result = timed("validate", [&] {
      return evaluate_policy(base, crew, policy, plan.validation,
                             {.sampling = {.temperature = 0}, .batch = config.evaluate.batch},
                             "validation");
    });
    if (!result) return false;
    if (result->accuracy() > state.best_score) {
      state.best_score = result->accuracy();
      state.best_step = state.step;
      state.validations_since_best = 0;
      if (crew.leads()) save("best");
    } else {
      ++state.validations_since_best;
    }
    if (log) log->evaluation(state.step, "validation", validation_record(state, *result));
    return true;
  }

  void save(const std::string& name) {
    folder.verify_owner();
    Expert expert = as_expert(*base.model, z());
    std::string tasks;
    for (const TaskSpec& task : config.tasks) tasks += (tasks.empty() ? "" : "+") + task.name;
    expert.metadata = {{"model_hash", base.model_hash},
                       {"store_hash", base.store_hash},
                       {"parametrisation", config.train.parametrisation},
                       {"task", tasks},
                       {"step", std::to_string(state.step)},
                       {"seed", std::to_string(state.seed)},
                       {"run_id", folder.run_id()}};
    if (state.best_step >= 0) {
      expert.metadata["validation_accuracy"] = std::to_string(state.best_score);
      expert.metadata["validation_step"] = std::to_string(state.best_step);
    }
    make_folder(folder.path() + "/experts");
    save_expert(folder.expert_path(name), expert);
  }

  void checkpoint() {
    timed("save", [&] {
      if (!crew.leads()) return;
      folder.verify_owner();
      save_checkpoint(folder.path(), state);
      prune_checkpoints(folder.path(), int(config.train.keep_checkpoints), state.best_step);
      clear_chunks_before(folder.path(), state.step);
    });
    longest_save_s = std::max(longest_save_s, seconds["save"]);
  }

  bool finished() const {
    const int64_t patience = config.train.early_stop_after;
    return state.step >= config.train.steps ||
           (patience > 0 && state.validations_since_best >= patience);
  }

  // Until finished or told to stop; returns the exit code.
  int run() {
    const int64_t per_step = plan.chunks_per_step;
    Progress progress({.label = "train",
                       .unit = "chunks",
                       .total = config.train.steps * per_step,
                       .before = state.step * per_step,
                       .shown = crew.leads()});
    put_in_force();
    while (!finished()) {
      crew.group().set_step(state.step);
      const double start = now_s();
      auto own = timed("chunks", [&] { return chunks(progress); });
      if (!own) return stopped("a stop was asked for");
      StepRecord record = gather_record(crew, *own, plan);
      step(*own, record);
      ++state.step;
      // Every rank holds the same p and moments, or the sum was not exact: never save otherwise.
      crew.agree("training state after step " + std::to_string(state.step), state_hash(state));
      put_in_force();
      if (!validate()) return stopped("a stop was asked for during validation");
      // Redone steps cost the same bits: fewer checkpoints are safe, only slower to resume.
      if (state.step % config.train.checkpoint_every == 0 || finished()) checkpoint();
      record.seconds = seconds;
      record.wall_s = now_s() - start;
      seconds.clear();
      if (log) {
        log->step(state.step, record.to_json(state, policy, *base.model));
        for (const json& text : record.texts) log->rollout(state.step, text);
        note = record.line();
        if (record.mismatch_mean() > kMismatchWarning)
          spdlog::warn(
              "step {}: sampling and gradient disagree by {:.3f} per token on average; "
              "use train.sampling_form: activation, or model.dtype: float32",
              state.step, record.mismatch_mean());
      }
      if (state.nonfinite_in_a_row >= config.train.max_nonfinite_steps)
        throw make_error(kExitNoProgress, "the gradient was not finite in ",
                         state.nonfinite_in_a_row, " steps in a row, last in step ", state.step,
                         "; the checkpoint before them is good: lower train.learning_rate, or use "
                         "model.dtype: float32");
    }
    progress.finish();
    if (base.model->weights_hash() != base.weights_hash)
      throw make_error(kExitInternal, "the frozen weights changed in memory during the run");
    if (crew.leads()) save("final");
    return kExitFinished;
  }

  int stopped(const std::string& why) {
    if (crew.leads())
      spdlog::warn("{}: stopped in step {}, finished chunks are kept; start again to go on", why,
                   state.step);
    return kExitRequeue;
  }
};

// Collective: until the allocation ends. One rank asks Slurm for all.
std::optional<double> seconds_left(Crew& crew) {
  std::string told;
  if (crew.leads())
    if (const auto left = seconds_left_in_job()) told = std::to_string(*left);
  crew.group().broadcast(told, 0, "end of the allocation");
  if (told.empty()) return std::nullopt;
  return std::stod(told);
}

int train_in(RunFolder& folder, const CommandLine& line, const Config& config, Crew& crew) {
  const std::string hardware = identity({torch_version(), config.threads, ""});
  crew.agree("hardware and build", hardware);
  Base base = open_base(config, crew);
  if (!open_factors(config, crew, base)) return kExitRequeue;
  const TrainingPlan plan = make_plan(config, base);
  crew.agree("training data and settings", plan.bits);

  RunState fresh = first_state(config, base, plan, hardware);
  std::optional<RunState> found = folder.newest(crew);
  if (found) {
    check_resumable(*found, fresh, line.allow_different_hardware);
    found->identity = hardware;
  }
  std::unique_ptr<RunLog> log;
  if (crew.leads()) log = std::make_unique<RunLog>(folder.path());
  Deadline deadline(seconds_left(crew));
  Trainer trainer{config, crew, base, folder, plan, log.get(), deadline, found ? *found : fresh,
                  {},     {},   {}};
  const bool was_finished = trainer.finished() && file_exists(folder.expert_path("final"));
  int code = kExitFinished;
  if (!was_finished) {
    if (crew.leads()) {
      remove_exit_report(folder.path());
      spdlog::info("{} {}, {} ranks, {} workers here",
                   found ? "resuming after step" : "starting at step", trainer.state.step,
                   crew.ranks(), crew.workers());
      log->event(found ? "resume" : "start", {{"step", trainer.state.step},
                                              {"ranks", crew.ranks()},
                                              {"workers", crew.workers()},
                                              {"identity", json::parse(hardware)},
                                              {"parameters", trainer.state.p.size()},
                                              {"state_hash", state_hash(trainer.state)}});
      if (!found) trainer.checkpoint();
    }
    code = trainer.run();
    if (crew.leads()) {
      const SlurmJob slurm = slurm_job();
      const std::string reason = code == kExitFinished ? "finished"
                                 : deadline.was_short()
                                     ? "time limit near"
                                     : std::string("stopped by ") + stop_signal_name();
      write_exit_report(folder.path(),
                        {reason, code, slurm.job, slurm.restarts, trainer.state.step});
    }
  } else if (const SlurmJob slurm = slurm_job(); crew.leads() && !slurm.job.empty()) {
    // Its job script must not start it again.
    write_exit_report(folder.path(),
                      {"finished", code, slurm.job, slurm.restarts, trainer.state.step});
  }
  if (crew.leads() && code == kExitFinished) {
    json result = {{"steps", trainer.state.step},
                   {"already_finished", was_finished},
                   {"expert", folder.expert_path("final")},
                   {"best_validation", trainer.state.best_score},
                   {"hash", state_hash(trainer.state)}};
    if (line.json)
      std::printf("%s\n", result.dump().c_str());
    else
      std::printf("%s after %lld steps: %s\n", was_finished ? "already finished" : "finished",
                  static_cast<long long>(trainer.state.step), folder.expert_path("final").c_str());
  }
  return code;
}

}  // namespace

int train_command(const CommandLine& line, const Config& config) {
  Crew crew(config);
  RunFolder folder(config, crew);
  try {
    return train_in(folder, line, config, crew);
  } catch (const Error& error) {
    // What the job script reads; a run that was killed leaves none.
    try {
      const SlurmJob slurm = slurm_job();
      if (crew.leads())
        write_exit_report(folder.path(),
                          {error.what(), error.code(), slurm.job, slurm.restarts, -1});
    } catch (const Error&) {  // the folder itself may be what failed
    }
    throw;
  }
}

}  // namespace svfleet
