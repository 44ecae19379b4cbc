#include "coordinator/training/loop.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "checkpoints/file.h"
#include "checkpoints/run_checkpoint.h"
#include "comm/counted.h"
#include "comm/error.h"
#include "comm/exact_sum.h"
#include "coordinator/run/stop_request.h"
#include "coordinator/training/chunks_of_step.h"
#include "coordinator/training/evaluation.h"
#include "worker/memory.h"

namespace svfleet {
namespace {

constexpr int64_t kValidationBatch = 32;

LearningRules rules_of(const ExpertPlan& expert, const Basis& basis) {
  return {expert.config, expert.plan.optimizer, basis.core()};
}

// Whether some step makes forward passes of the base model.
bool reads_base(const ChunkRules& rules, const TrainConfig& train) {
  if (rules.method == Method::kRightReplies || rules.kl_beta > 0) return true;
  return rules.method == Method::kPolicyGradient && train.log_kl_every > 0;
}

}  // namespace

TrainingLoop::TrainingLoop(const TrainingRun& run, RunState start, bool saved, Narrator::To to,
                           double load_s)
    : run_(run), narrator_(run.config, run.experts, run.crew, to), load_s_(load_s) {
  const std::vector<RunState*> states = states_of(start);
  for (size_t e = 0; e < run.experts.size(); ++e)
    trainees_.push_back({run.experts[e], Learner(rules_of(run.experts[e], *run.base.basis),
                                                 std::move(*states[e]))});
  if (!run.config.experts.empty()) {
    shared_ = std::move(start);
    shared_.experts.clear();
  }
  if (saved)
    saved_step_ = step();
  else
    checkpoint();
}

RunState TrainingLoop::state() const {
  if (run_.config.experts.empty()) return trainees_.front().state();
  RunState all = shared_;
  all.step = step();
  for (const Trainee& one : trainees_) all.experts.push_back({one.name(), one.state()});
  return all;
}

bool TrainingLoop::finished() const {
  return std::all_of(trainees_.begin(), trainees_.end(),
                     [](const Trainee& one) { return one.learner.finished(); });
}

int TrainingLoop::run() {
  begin();
  if (!validate_first()) return stop("a stop was asked for during validation");
  while (!finished()) {
    if (end_asked()) return end_as_asked();
    Stopwatch watch;
    if (!chunks()) return stop("a stop was asked for");
    const std::vector<Trainee*> active = active_of(trainees_);
    std::vector<StepRecord> records = take_step(active);
    put_in_force();
    for (Trainee* one : active)
      if (!validate(*one)) return stop("a stop was asked for during validation");
    const double until_now_s = watch.lap();
    trust_->after_step(step(), until_now_s);
    const double wall_s = until_now_s + watch.lap();
    std::vector<Narrator::Stepped> told;
    for (size_t i = 0; i < active.size(); ++i) {
      records[i].seconds = seconds_;
      records[i].wall_s = wall_s;
      told.push_back({active[i]->plan, active[i]->learner, active[i]->policy, records[i]});
    }
    seconds_.clear();
    narrator_.stepped(step(), told, *run_.base.basis);
    // After the log: killed in between, the step is redone and logged again. Redone steps cost
    // the same bits: fewer checkpoints are safe, only slower to resume.
    if (checkpoint_is_due(active)) checkpoint();
    for (const Trainee* one : active)
      if (one->learner.too_often_nonfinite()) give_up(*one);
  }
  return finish();
}

void TrainingLoop::begin() {
  narrator_.begin(step());
  Stopwatch watch;
  const auto side_by_side = [&](int64_t count, const auto& work) {
    run_.crew.side_by_side(count, work);
  };
  const bool base_too = std::any_of(
      run_.experts.begin(), run_.experts.end(),
      [](const ExpertPlan& expert) { return reads_base(expert.plan.rules, expert.config.train); });
  if (run_.config.train.evolves())
    pack_for_sampling(*run_.base.weights, *run_.base.basis, side_by_side);
  else
    pack_for_training(*run_.base.weights, *run_.base.basis, form_named(run_.config.train.form),
                      base_too, side_by_side);
  put_in_force();
  load_s_ += watch.lap();
  narrator_.spent("loading");
  seconds_.clear();
  trust_.emplace(run_.base, run_.crew, run_.folder, narrator_, state());
}

void TrainingLoop::put_in_force() {
  give_back_memory();  // holes that replies and gradients left, into which few matrices fit
  timed("merge", [&] {
    Trainee& first = trainees_.front();
    if (trainees_.size() == 1) {
      first.policy = enforce(run_.base, run_.crew, first.learner.z(),
                             form_named(run_.config.train.form), std::move(first.policy));
      return;
    }
    std::vector<std::vector<float>> z;
    for (const Trainee& one : trainees_) z.push_back(one.learner.z());
    std::vector<Policy> policies = enforce_beside(run_.base, z);
    for (size_t e = 0; e < trainees_.size(); ++e) trainees_[e].policy = std::move(policies[e]);
  });
}

bool TrainingLoop::chunks() {
  run_.crew.group().set_step(step());
  narrator_.doing("chunks");
  ChunksOfStep chunks(run_, trainees_, narrator_, load_s_);
  const bool done = timed("chunks", [&] { return chunks.compute(); });
  handled_ = chunks.handled();
  seconds_["journal"] += chunks.journal_s();
  return done;
}

std::vector<StepRecord> TrainingLoop::take_step(const std::vector<Trainee*>& active) {
  const int64_t before = step();
  std::vector<StepRecord> records;
  for (Trainee* one : active) {
    StepRecord& record = records.emplace_back(
        gather_record(run_.crew, one->own, one->restored, handled_, one->plan.plan));
    // Every rank has the fitness of all members: nothing else is exchanged.
    record.update = one->plan.plan.rules.method == Method::kEvolution
                        ? one->learner.take(record.tally.fitness)
                        : one->learner.take(sum_of(*one), record.tally);
  }
  // Every rank holds the same p and moments, or the sum was not exact: never save otherwise.
  run_.crew.compare("training state after step " + std::to_string(before + 1), state_hash(state()));
  return records;
}

ExactTotal TrainingLoop::sum_of(const Trainee& one) {
  const std::vector<int64_t>& ends = one.plan.plan.segment_ends;
  std::vector<std::span<const float>> terms;
  for (const FinishedChunk& chunk : one.own) {
    const std::span<const float> all = chunk.gradient;
    const size_t length = size_t(ends.back());
    for (int64_t g = 0; g < chunk.groups; ++g)
      terms.push_back(all.subspan(size_t(g) * length, length));
  }
  return timed("reduce", [&] {
    return exact_sum(terms, ends, one.plan.config.train.prompts_per_step, run_.crew.group(),
                     run_.crew.reducer());
  });
}

bool TrainingLoop::validate_first() {
  // The base, or the parent's state, counts too: an expert is only best where it beats what it
  // started from. The same where the best so far no longer counts.
  for (Trainee& one : trainees_)
    if (one.state().best_step < 0 &&
        !validate(one, /*now=*/one.plan.config.train.validate_every > 0))
      return false;
  return true;
}

bool TrainingLoop::validate(Trainee& one, bool now) {
  if (!now && !one.learner.validation_is_due()) return true;
  narrator_.doing("validation");
  const std::optional<Evaluation> result = timed("validate", [&] {
    return evaluate_policy(run_.base, run_.crew, one.policy, one.plan.plan.validation,
                           {.sampling = {.temperature = 0}, .batch = kValidationBatch},
                           "validation");
  });
  if (!result) return false;
  if (one.learner.validated(result->all.score()) && run_.crew.leads())
    save(one, "best", one.state());
  narrator_.validated(one.name(), one.state(), *result);
  return true;
}

bool TrainingLoop::checkpoint_is_due(const std::vector<Trainee*>& active) const {
  return std::any_of(active.begin(), active.end(),
                     [](const Trainee* one) { return one->learner.checkpoint_is_due(); });
}

void TrainingLoop::save(const Trainee& one, const std::string& name, const RunState& of) {
  Expert expert = as_expert(*run_.base.basis, one.learner.z_of(of));
  const RunState& now = one.state();
  std::string tasks;
  for (const TaskSpec& task : one.plan.config.tasks)
    tasks += (tasks.empty() ? "" : "+") + task.name;
  expert.metadata = {
      {"model_hash", run_.base.model_hash},     {"task", tasks},
      {"step", std::to_string(of.step)},        {"seed", std::to_string(now.seed)},
      {"run_id", run_.folder.run_id()},         {"config_hash", run_.base.hashes.config},
      {"config_shape", run_.base.hashes.shape}, {"tokenizer_hash", run_.base.hashes.tokenizer}};
  if (!run_.base.store_hash.empty()) expert.metadata["store_hash"] = run_.base.store_hash;
  const bool diagonal = run_.base.basis->core().kind() == CoreKind::kDiagonal;
  expert.metadata["parametrisation"] =
      diagonal ? run_.config.train.parametrisation : run_.config.train.core;
  if (run_.base.chat) expert.metadata["chat_template_hash"] = run_.base.hashes.chat_template;
  if (!now.parent.empty()) expert.metadata["parent"] = now.parent;
  if (now.best_step == of.step)
    expert.metadata["validation_score"] = std::to_string(now.best_score);
  timed("save", [&] {
    make_folder(run_.folder.path() + "/experts");
    if (!one.name().empty()) make_folder(run_.folder.path() + "/experts/" + one.name());
    save_expert(run_.folder.expert_path(name, one.name()), expert);
  });
}

void TrainingLoop::save_all(const std::string& name) {
  for (const Trainee& one : trainees_) save(one, name, one.state());
}

void TrainingLoop::mend_best() {
  for (const Trainee& one : trainees_) mend_best(one);
}

void TrainingLoop::mend_best(const Trainee& one) {
  const std::string path = run_.folder.expert_path("best", one.name());
  const int64_t step = one.state().best_step;
  if (!run_.crew.leads() || step < 0 || file_exists(path)) return;
  try {
    if (step == one.state().step) {
      save(one, "best", one.state());
    } else {
      const RunState saved = load_checkpoint(run_.folder.path(), step);
      save(one, "best", *states_of(saved).at(size_t(one.plan.plan.rules.expert)));
    }
    spdlog::warn("'{}' was gone and has been made again from the state after step {}", path, step);
  } catch (const Error& error) {
    spdlog::warn("'{}' is gone and cannot be made again, the best so far was that of step {}: {}",
                 path, step, error.what());
  }
}

void TrainingLoop::checkpoint() {
  RunFolder& folder = run_.folder;
  saved_step_ = step();
  timed("save", [&] {
    run_.crew.together("save a checkpoint", [&] {
      folder.journal().flush();
      if (!run_.crew.leads()) return;
      narrator_.settle(run_.crew.timeout_s());
      narrator_.doing("saving");
      if (trust_) trust_->note();
      const RunState now = state();
      save_checkpoint(folder.path(), now);
      prune_checkpoints(folder.path(), int(run_.config.train.keep_checkpoints), best_steps(now),
                        trust_ ? trust_->clean_step() : 0);
    });
  });
  // Every rank has written all of its own by now: nobody writes to a file that is removed.
  folder.journal().checkpointed(step());
  run_.crew.note_save(seconds_["save"] + (trust_ ? trust_->all_s() : 0));
}

bool TrainingLoop::end_asked() {
  std::string asked;
  if (run_.crew.leads() && end_requested(run_.folder.path())) asked = "yes";
  run_.crew.group().broadcast(asked, 0, "look for a stop request");
  return !asked.empty();
}

int TrainingLoop::finish() {
  trust_->look_at_all(step());
  if (run_.crew.leads()) {
    trust_->note();
    save_all("final");
  }
  std::vector<const RunState*> ends;
  for (const Trainee& one : trainees_) ends.push_back(&one.state());
  narrator_.finished(ends, seconds_);
  narrator_.spent("saving");
  narrator_.settle(run_.crew.timeout_s());
  return kExitFinished;
}

int TrainingLoop::end_as_asked() {
  asked_to_end_ = true;
  trust_->look_at_all(step());
  if (saved_step_ != step()) checkpoint();
  if (run_.crew.leads()) save_all("last");
  narrator_.spent("saving");
  narrator_.settle(run_.crew.timeout_s());
  return kExitFinished;
}

int TrainingLoop::stop(const std::string& why) {
  run_.crew.together("keep finished chunks", [&] { run_.folder.journal().flush(); });
  if (run_.crew.leads()) {
    save_all("last");
    spdlog::warn("{}: stopped in step {}, finished chunks are kept; start again to go on", why,
                 step());
  }
  trust_->look_at_all(step());
  if (run_.crew.leads()) trust_->note();
  narrator_.settle(run_.crew.timeout_s());
  return kExitRequeue;
}

void TrainingLoop::give_up(const Trainee& one) {
  if (run_.crew.leads()) save_all("last");
  const std::string whose = one.name().empty() ? "" : "expert '" + one.name() + "': ";
  throw make_error(kExitNoProgress, whose, "the gradient was not finite in ",
                   counted(one.state().nonfinite_in_a_row, "step"), " in a row, last in step ",
                   one.state().step, "; z as it was before them is in experts/",
                   one.name().empty() ? "" : one.name() + "/",
                   "last.safetensors: start another run_dir with that as train.init_from and a "
                   "lower train.learning_rate, or with model.dtype: float32");
}

}  // namespace svfleet
