#include "coordinator/training/trainer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/journal.h"
#include "cluster/signals.h"
#include "comm/clock.h"
#include "comm/error.h"
#include "comm/exact_sum.h"
#include "comm/stage.h"
#include "coordinator/run/stop_request.h"
#include "coordinator/training/best.h"
#include "coordinator/training/chunk.h"
#include "coordinator/training/evaluation.h"
#include "coordinator/training/fork.h"
#include "worker/test_fault.h"

namespace svfleet {
namespace {

using nlohmann::json;

// Fixed: the batch is part of what a reply depends on, and validation chooses the expert.
constexpr int64_t kValidationBatch = 32;

// Seconds of chunks by the names of the ledger, for so many chunks at a time.
std::map<std::string, double> spent_on(const ChunkSeconds& chunks, int64_t slots) {
  return {{"gradient", std::max(0.0, chunks.gradient) / double(slots)},
          {"generating", std::max(0.0, chunks.all() - chunks.gradient) / double(slots)}};
}

bool all_finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

}  // namespace

std::vector<float> Trainer::z_at(const std::vector<float>& p) const {
  return z_of(plan.parametrisation, base.model->targets(), p, base.model->sigmas());
}

void Trainer::put_in_force() {
  const bool sample_merged = config.train.sampling_form == "merged";
  timed("merge", [&] {
    policy = enforce(base, crew, z(), sample_merged || plan.rules.gradient == Apply::kClosedForm,
                     sample_merged ? Apply::kMerged : Apply::kActivation);
  });
}

std::optional<std::vector<FinishedChunk>> Trainer::chunks(Progress& progress) {
  std::vector<FinishedChunk> own;
  std::vector<int> missing;
  if (crew.leads()) {
    std::vector<std::string> ignored;
    own = read_chunks(folder.path(), folder.run_id(), state.step, policy.hash, &ignored);
    for (const std::string& line : ignored) spdlog::warn("chunk not used: {}", line);
    if (!own.empty()) spdlog::info("step {}: {} finished chunks restored", state.step, own.size());
    for (int c = 0; c < plan.chunks_per_step; ++c)
      if (std::none_of(own.begin(), own.end(),
                       [&](const FinishedChunk& chunk) { return chunk.chunk == c; }))
        missing.push_back(c);
  }
  restored = int64_t(own.size());
  restored_seconds = {};
  for (const FinishedChunk& chunk : own) restored_seconds.add(tally_of(chunk, plan.tasks).seconds);
  if (restored > 0) ledger->restored(state.step, restored, spent_on(restored_seconds, 1));
  ChunkRules rules = plan.rules;
  rules.run_id = folder.run_id();
  rules.step = state.step;
  const int64_t every = config.train.log_kl_every;
  rules.measure_kl = every > 0 && state.step % every == 0;
  std::mutex mutex;
  const auto note_first = [&] {  // everyone is here, and there is something to do
    {
      std::lock_guard lock(mutex);
      if (!ledger || computed || missing.empty()) return;
      computed = true;
    }
    ledger->first_chunk(load_s);
  };
  if (pulse) pulse->doing("chunks");
  bool done = crew.share(
      missing, "chunks",
      [&](int c) {
        note_first();
        FinishedChunk chunk =
            compute_chunk(base, policy, rules, c, plan.prompts(config, state.position, c));
        const double finished = steady_clock_s();
        write_chunk(folder.path(), chunk);
        std::lock_guard lock(mutex);
        seconds["journal"] += steady_clock_s() - finished;
        own.push_back(std::move(chunk));
      },
      [&](const ShareReport& now) {
        note_first();
        progress.update(state.step * plan.chunks_per_step + restored + now.finished, note);
        pulse->at(state.step, config.train.steps, restored + now.finished, plan.chunks_per_step);
        pulse->out(now.out);
        for (const std::string& line : stragglers.while_out(now.out, longest_chunk_s))
          spdlog::warn("step {}: {}", state.step, line);
      });
  if (!done) return std::nullopt;
  // The hash is made anew from today's p: an update that never reached the policy shows here.
  const std::string today = z_hash(as_expert(*base.model, z()));
  for (const FinishedChunk& chunk : own) check_receipt(chunk, state.step, today);
  return own;
}

void Trainer::step(const std::vector<FinishedChunk>& own, StepRecord& record) {
  std::vector<std::span<const float>> terms;
  for (const FinishedChunk& chunk : own) terms.push_back(chunk.gradient);
  ExactTotal total = timed("reduce", [&] {
    return exact_sum(terms, plan.segment_ends, plan.chunks_per_step, crew.group());
  });
  state.position += config.train.prompts_per_step;
  record.finite = total.finite;
  if (total.finite) update(total.sum, record);
  if (record.finite) {
    state.nonfinite_in_a_row = 0;
  } else {
    ++state.nonfinite_in_a_row;
    ++state.nonfinite_total;
  }
}

void Trainer::update(std::vector<double>& sum, StepRecord& record) {
  const int64_t counted = record.tally.all().counted;
  if (record.tally.trained_groups == 0 || counted == 0) return;  // no signal: no optimizer call
  for (double& dz : sum) dz /= double(counted);
  std::vector<float> gradient =
      chain_to_p(plan.parametrisation, base.model->targets(), state.p, sum, base.model->sigmas());
  record.gradient_norm = clip_global_norm(gradient, config.train.clip_norm);
  AdamWOptions options = plan.optimizer;
  options.learning_rate *= schedule_factor(schedule(config.train.schedule), state.step,
                                           config.train.steps, config.train.warmup_steps);
  record.learning_rate = options.learning_rate;
  RunState next = state;
  adamw_step(options, next.updates++, next.p, next.m, next.v, gradient);
  record.finite = std::isfinite(record.gradient_norm) && all_finite(next.p) && all_finite(next.m) &&
                  all_finite(next.v) && all_finite(z_at(next.p));
  if (record.finite) state = std::move(next);
}

bool Trainer::validate(bool now) {
  const int64_t every = config.train.validate_every;
  if (every <= 0 || (!now && state.step % every != 0)) return true;
  if (pulse) pulse->doing("validation");
  std::optional<Evaluation> result = timed("validate", [&] {
    return evaluate_policy(base, crew, policy, plan.validation,
                           {.sampling = {.temperature = 0}, .batch = kValidationBatch},
                           "validation");
  });
  if (!result) return false;
  if (result->all.score() > state.best_score) {
    state.best_score = result->all.score();
    state.best_step = state.step;
    state.validations_since_best = 0;
    if (crew.leads()) save("best");
  } else {
    ++state.validations_since_best;
  }
  if (log) log->evaluation(state.step, "validation", validation_record(state, *result));
  return true;
}

void Trainer::save(const std::string& name, const RunState& of) {
  Expert expert = as_expert(*base.model, z_at(of.p));
  std::string tasks;
  for (const TaskSpec& task : config.tasks) tasks += (tasks.empty() ? "" : "+") + task.name;
  expert.metadata = {{"model_hash", base.model_hash},
                     {"store_hash", base.store_hash},
                     {"parametrisation", config.train.parametrisation},
                     {"task", tasks},
                     {"step", std::to_string(of.step)},
                     {"seed", std::to_string(state.seed)},
                     {"run_id", folder.run_id()}};
  if (!state.parent.empty()) expert.metadata["parent"] = state.parent;
  if (state.best_step == of.step)
    expert.metadata["validation_score"] = std::to_string(state.best_score);
  timed("save", [&] {
    make_folder(folder.path() + "/experts");
    save_expert(folder.expert_path(name), expert);
  });
}

void Trainer::mend_best() {
  const std::string path = folder.expert_path("best");
  if (state.best_step < 0 || file_exists(path)) return;
  try {
    save("best",
         state.best_step == state.step ? state : load_checkpoint(folder.path(), state.best_step));
    spdlog::warn("'{}' was gone and has been made again from the state after step {}", path,
                 state.best_step);
  } catch (const Error& error) {
    spdlog::warn("'{}' is gone and cannot be made again, the best so far was that of step {}: {}",
                 path, state.best_step, error.what());
  }
}

void Trainer::checkpoint() {
  saved_step = state.step;
  timed("save", [&] {
    crew.on_leader("save a checkpoint", [&] {
      pulse->doing("saving");
      note_clean();
      save_checkpoint(folder.path(), state);
      prune_checkpoints(folder.path(), int(config.train.keep_checkpoints), state.best_step,
                        clean.step);
      clear_chunks_before(folder.path(), state.step);
    });
  });
  crew.note_save(seconds["save"] + (watch ? watch->all_s() : 0));
}

void Trainer::account(const StepRecord& record) {
  if (!crew.leads()) return;
  ChunkSeconds computed_now = record.tally.seconds;
  computed_now.take_away(restored_seconds);
  std::map<std::string, double> parts = spent_on(computed_now, crew.slots());
  for (const auto& [on, phase] : {std::pair{"merging", "merge"}, std::pair{"reduction", "reduce"},
                                  std::pair{"evaluating", "validate"}, std::pair{"saving", "save"}})
    parts[on] += seconds[phase];
  ledger->spent(std::move(parts), "idle", state.step);
  longest_chunk_s = std::max(longest_chunk_s, record.longest_chunk_s);
  for (const std::string& line :
       stragglers.after_step(record.chunks_by_rank, record.chunk_s_by_rank))
    spdlog::warn("step {}: {}", state.step, line);
}

bool Trainer::end_asked() {
  std::string asked;
  if (crew.leads() && end_requested(folder.path())) asked = "yes";
  crew.group().broadcast(asked, 0, "look for a stop request");
  return !asked.empty();
}

bool Trainer::too_often_nonfinite() const {
  return state.nonfinite_in_a_row >= config.train.max_nonfinite_steps;
}

int Trainer::run() {
  const int64_t per_step = plan.chunks_per_step;
  Progress progress({.label = "train",
                     .unit = "chunks",
                     .total = config.train.steps * per_step,
                     .before = state.step * per_step,
                     .shown = crew.leads()});
  load_s -= wall_clock_s();
  put_in_force();
  load_s += wall_clock_s();
  if (ledger) ledger->spent("loading");
  seconds.clear();
  start_watch();
  // The base, or the parent's state, counts too: an expert is only best where it beats what it
  // started from. The same where the best so far no longer counts.
  if (state.best_step < 0 && !validate(/*now=*/true))
    return stopped("a stop was asked for during validation");
  while (!is_finished(state, config)) {
    crew.group().set_step(state.step);
    if (end_asked()) return ended_as_asked();
    const double start = steady_clock_s();
    auto own = timed("chunks", [&] { return chunks(progress); });
    if (!own) return stopped("a stop was asked for");
    StepRecord record = gather_record(crew, *own, restored, plan);
    step(*own, record);
    ++state.step;
    if (test_fault_is("state")) state.p[0] = -state.p[0] - 1;
    // Every rank holds the same p and moments, or the sum was not exact: never save otherwise.
    crew.compare("training state after step " + std::to_string(state.step), state_hash(state));
    put_in_force();
    if (!validate()) return stopped("a stop was asked for during validation");
    record.seconds = seconds;
    trust(watch->after_step(state.step, steady_clock_s() - start));
    record.wall_s = steady_clock_s() - start;
    account(record);
    seconds.clear();
    if (log) {
      const InStage telling(Stage::kTelling);
      log->step(state.step, record.to_json(state, policy), z_statistics(policy, *base.model),
                is_finished(state, config));
      for (const json& text : record.texts) log->rollout(state.step, text);
      note = record.line();
      warn_after(record);
    }
    // After the log: killed in between, the step is redone and logged again. Redone steps cost
    // the same bits: fewer checkpoints are safe, only slower to resume.
    if (state.step % config.train.checkpoint_every == 0 || is_finished(state, config) ||
        too_often_nonfinite() || state.best_step == state.step)
      checkpoint();
    if (too_often_nonfinite()) {
      if (crew.leads()) save("last");
      throw make_error(kExitNoProgress, "the gradient was not finite in ", state.nonfinite_in_a_row,
                       " steps in a row, last in step ", state.step,
                       "; z as it was before them is in experts/last.safetensors: start another "
                       "run_dir with that as train.init_from and a lower train.learning_rate, or "
                       "with model.dtype: float32");
    }
  }
  progress.finish();
  trust(watch->look_at_all(state.step));
  if (!crew.leads()) return kExitFinished;
  note_clean();
  save("final");
  // Saving comes after a step's record: this is what the last one took.
  log->event("finish", {{"step", state.step},
                        {"reason", stopped_early(state, config) ? "early_stop" : "finished"},
                        {"best_step", state.best_step},
                        {"best_score", state.best_step < 0 ? json() : json(state.best_score)},
                        {"seconds", seconds}});
  warn_at_end();
  ledger->spent("saving");
  return kExitFinished;
}

int Trainer::ended_as_asked() {
  asked_to_end = true;
  trust(watch->look_at_all(state.step));
  if (saved_step != state.step) checkpoint();
  if (!crew.leads()) return kExitFinished;
  save("last");
  ledger->spent("saving");
  return kExitFinished;
}

int Trainer::stopped(const std::string& why) {
  if (crew.leads()) save("last");
  if (crew.leads())
    spdlog::warn("{}: stopped in step {}, finished chunks are kept; start again to go on", why,
                 state.step);
  trust(watch->look_at_all(state.step));
  if (crew.leads()) note_clean();
  return kExitRequeue;
}

}  // namespace svfleet
