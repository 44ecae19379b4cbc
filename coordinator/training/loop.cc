#include "coordinator/training/loop.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <mutex>

#include "checkpoints/file.h"
#include "comm/counted.h"
#include "comm/error.h"
#include "comm/exact_sum.h"
#include "coordinator/run/stop_request.h"
#include "coordinator/training/chunk.h"
#include "coordinator/training/evaluation.h"
#include "coordinator/training/population.h"

namespace svfleet {
namespace {

constexpr int64_t kValidationBatch = 32;

LearningRules rules_of(const Config& config, const TrainingPlan& plan, const Basis& basis) {
  return {config, plan.optimizer, basis.core()};
}

// Whether some step makes forward passes of the base model.
bool reads_base(const ChunkRules& rules, const TrainConfig& train) {
  if (rules.method == Method::kRightReplies || rules.kl_beta > 0) return true;
  return rules.method == Method::kPolicyGradient && train.log_kl_every > 0;
}

}  // namespace

TrainingLoop::TrainingLoop(const Run& run, RunState start, bool saved, Narrator::To to,
                           double load_s)
    : run_(run),
      learner_(rules_of(run.config, run.plan, *run.base.basis), std::move(start)),
      narrator_(run.config, run.plan, run.crew, to),
      load_s_(load_s) {
  if (saved)
    saved_step_ = state().step;
  else
    checkpoint();
}

int TrainingLoop::run() {
  begin();
  // The base, or the parent's state, counts too: an expert is only best where it beats what it
  // started from. The same where the best so far no longer counts.
  if (state().best_step < 0 && !validate(/*now=*/run_.config.train.validate_every > 0))
    return stop("a stop was asked for during validation");
  while (!learner_.finished()) {
    if (end_asked()) return end_as_asked();
    Stopwatch watch;
    const auto own = chunks();
    if (!own) return stop("a stop was asked for");
    StepRecord record = step(*own);
    put_in_force();
    if (!validate()) return stop("a stop was asked for during validation");
    record.seconds = seconds_;
    const double until_now_s = watch.lap();
    trust_->after_step(state().step, until_now_s);
    record.wall_s = until_now_s + watch.lap();
    seconds_.clear();
    narrator_.stepped(learner_, policy_, *run_.base.basis, record);
    // After the log: killed in between, the step is redone and logged again. Redone steps cost
    // the same bits: fewer checkpoints are safe, only slower to resume.
    if (learner_.checkpoint_is_due()) checkpoint();
    if (learner_.too_often_nonfinite()) give_up();
  }
  return finish();
}

void TrainingLoop::begin() {
  narrator_.begin(state().step);
  Stopwatch watch;
  const auto side_by_side = [&](int64_t count, const auto& work) {
    run_.crew.side_by_side(count, work);
  };
  if (run_.plan.rules.method == Method::kEvolution)
    pack_for_sampling(*run_.base.weights, *run_.base.basis, side_by_side);
  else
    pack_for_training(*run_.base.weights, *run_.base.basis, form_named(run_.config.train.form),
                      reads_base(run_.plan.rules, run_.config.train), side_by_side);
  put_in_force();
  load_s_ += watch.lap();
  narrator_.spent("loading");
  seconds_.clear();
  trust_.emplace(run_.base, run_.crew, run_.folder, narrator_, state());
}

void TrainingLoop::put_in_force() {
  timed("merge", [&] {
    policy_ = enforce(run_.base, run_.crew, learner_.z(), form_named(run_.config.train.form),
                      std::move(policy_));
  });
}

std::vector<FinishedChunk> TrainingLoop::from_journal(std::vector<int>* missing) {
  std::vector<FinishedChunk> own;
  if (!run_.crew.leads()) return own;
  std::vector<std::string> ignored;
  own = run_.folder.journal().read(state().step, policy_.hash, &ignored);
  for (const std::string& line : ignored) spdlog::warn("chunk not used: {}", line);
  // Of a process with chunks of another size: what a number stands for has changed.
  const size_t cut_otherwise = std::erase_if(own, [&](const FinishedChunk& chunk) {
    return chunk.prompts != run_.config.train.chunk_size() ||
           chunk.chunk >= run_.plan.chunks_per_step;
  });
  if (cut_otherwise)
    spdlog::warn("step {}: {} of another train.{} computed again", state().step,
                 counted(int64_t(cut_otherwise), "finished chunk"),
                 run_.config.train.evolves() ? "members_per_chunk" : "prompts_per_chunk");
  for (int c = 0; c < run_.plan.chunks_per_step; ++c)
    if (std::none_of(own.begin(), own.end(),
                     [&](const FinishedChunk& chunk) { return chunk.chunk == c; }))
      missing->push_back(c);
  return own;
}

Replies TrainingLoop::replies_of(const std::vector<int>& missing) {
  std::string told;
  if (run_.crew.leads() && !missing.empty()) {
    std::vector<std::string> ignored;
    std::vector<FinishedReply> found =
        run_.folder.journal().read_replies(state().step, policy_.hash, &ignored);
    for (const std::string& line : ignored) spdlog::warn("reply not used: {}", line);
    const TrainConfig& train = run_.config.train;
    std::erase_if(found, [&](const FinishedReply& reply) {
      const int64_t place =
          train.evolves() ? reply.place.member : reply.place.position - state().position;
      const int64_t chunk = place / train.chunk_size();
      return std::find(missing.begin(), missing.end(), chunk) == missing.end();
    });
    if (!found.empty())
      spdlog::info("step {}: {} finished {} of unfinished chunks restored", state().step,
                   found.size(), found.size() == 1 ? "reply" : "replies");
    told = packed(found);
  }
  run_.crew.group().broadcast(told, 0, "tell finished replies");
  return {unpacked(told), state().step, policy_.hash, &run_.folder.journal()};
}

std::optional<std::vector<FinishedChunk>> TrainingLoop::chunks() {
  run_.crew.group().set_step(state().step);
  narrator_.doing("chunks");
  std::vector<int> missing;
  std::vector<FinishedChunk> own = from_journal(&missing);
  restored_ = int64_t(own.size());
  const Replies replies = replies_of(missing);
  narrator_.restored(state().step, own);
  ChunkRules rules = run_.plan.rules;
  rules.run_id = run_.folder.run_id();
  rules.step = state().step;
  const int64_t every = run_.config.train.log_kl_every;
  rules.measure_kl = every > 0 && rules.step % every == 0;
  std::mutex mutex;
  const auto finish = [&](int c) {
    narrator_.handing_out(load_s_);
    FinishedChunk chunk = compute(c, rules, replies);
    Stopwatch watch;
    run_.folder.journal().add(chunk);
    std::lock_guard lock(mutex);
    seconds_["journal"] += watch.lap();
    own.push_back(std::move(chunk));
  };
  const auto report = [&](const ShareReport& now) {
    if (!missing.empty()) narrator_.handing_out(load_s_);
    narrator_.at_work(state().step, now);
  };
  if (!timed("chunks", [&] { return run_.crew.share(missing, "chunks", finish, report); }))
    return std::nullopt;
  // The hash is made anew from today's p: an update that never reached the policy shows here.
  const std::string today = z_hash(as_expert(*run_.base.basis, learner_.z()));
  for (const FinishedChunk& chunk : own) check_receipt(chunk, state().step, today);
  return own;
}

FinishedChunk TrainingLoop::compute(int chunk, const ChunkRules& rules, const Replies& replies) {
  const auto prompts = run_.plan.prompts(run_.config, state().position, chunk);
  if (rules.method != Method::kEvolution)
    return compute_chunk(run_.base, policy_, rules, chunk, prompts, replies);
  const int64_t size = run_.config.train.members_per_chunk;
  const Policy members = with_members(run_.base, policy_, learner_.members(chunk * size, size));
  return compute_chunk(run_.base, members, rules, chunk, prompts, replies);
}

StepRecord TrainingLoop::step(const std::vector<FinishedChunk>& own) {
  StepRecord record = gather_record(run_.crew, own, restored_, run_.plan);
  // Every rank has the fitness of all members: nothing else is exchanged.
  record.update = run_.plan.rules.method == Method::kEvolution
                      ? learner_.take(record.tally.fitness)
                      : learner_.take(sum_of(own), record.tally);
  // Every rank holds the same p and moments, or the sum was not exact: never save otherwise.
  run_.crew.compare("training state after step " + std::to_string(state().step),
                    state_hash(state()));
  return record;
}

ExactTotal TrainingLoop::sum_of(const std::vector<FinishedChunk>& own) {
  std::vector<std::span<const float>> terms;
  for (const FinishedChunk& chunk : own) {
    const std::span<const float> all = chunk.gradient;
    const size_t length = size_t(run_.plan.segment_ends.back());
    for (int64_t g = 0; g < chunk.groups; ++g)
      terms.push_back(all.subspan(size_t(g) * length, length));
  }
  return timed("reduce", [&] {
    return exact_sum(terms, run_.plan.segment_ends, run_.config.train.prompts_per_step,
                     run_.crew.group(), run_.crew.reducer());
  });
}

bool TrainingLoop::validate(bool now) {
  if (!now && !learner_.validation_is_due()) return true;
  narrator_.doing("validation");
  const std::optional<Evaluation> result = timed("validate", [&] {
    return evaluate_policy(run_.base, run_.crew, policy_, run_.plan.validation,
                           {.sampling = {.temperature = 0}, .batch = kValidationBatch},
                           "validation");
  });
  if (!result) return false;
  if (learner_.validated(result->all.score()) && run_.crew.leads()) save("best");
  narrator_.validated(state(), *result);
  return true;
}

void TrainingLoop::save(const std::string& name, const RunState& of) {
  Expert expert = as_expert(*run_.base.basis, learner_.z_of(of));
  std::string tasks;
  for (const TaskSpec& task : run_.config.tasks) tasks += (tasks.empty() ? "" : "+") + task.name;
  expert.metadata = {
      {"model_hash", run_.base.model_hash},     {"task", tasks},
      {"step", std::to_string(of.step)},        {"seed", std::to_string(state().seed)},
      {"run_id", run_.folder.run_id()},         {"config_hash", run_.base.hashes.config},
      {"config_shape", run_.base.hashes.shape}, {"tokenizer_hash", run_.base.hashes.tokenizer}};
  if (!run_.base.store_hash.empty()) expert.metadata["store_hash"] = run_.base.store_hash;
  const bool diagonal = run_.base.basis->core().kind() == CoreKind::kDiagonal;
  expert.metadata["parametrisation"] =
      diagonal ? run_.config.train.parametrisation : run_.config.train.core;
  if (run_.base.chat) expert.metadata["chat_template_hash"] = run_.base.hashes.chat_template;
  if (!state().parent.empty()) expert.metadata["parent"] = state().parent;
  if (state().best_step == of.step)
    expert.metadata["validation_score"] = std::to_string(state().best_score);
  timed("save", [&] {
    make_folder(run_.folder.path() + "/experts");
    save_expert(run_.folder.expert_path(name), expert);
  });
}

void TrainingLoop::mend_best() {
  const std::string path = run_.folder.expert_path("best");
  const int64_t step = state().best_step;
  if (!run_.crew.leads() || step < 0 || file_exists(path)) return;
  try {
    save("best", step == state().step ? state() : load_checkpoint(run_.folder.path(), step));
    spdlog::warn("'{}' was gone and has been made again from the state after step {}", path, step);
  } catch (const Error& error) {
    spdlog::warn("'{}' is gone and cannot be made again, the best so far was that of step {}: {}",
                 path, step, error.what());
  }
}

void TrainingLoop::checkpoint() {
  RunFolder& folder = run_.folder;
  saved_step_ = state().step;
  timed("save", [&] {
    run_.crew.together("save a checkpoint", [&] {
      folder.journal().flush();
      if (!run_.crew.leads()) return;
      narrator_.settle(run_.crew.timeout_s());
      narrator_.doing("saving");
      if (trust_) trust_->note();
      save_checkpoint(folder.path(), state());
      prune_checkpoints(folder.path(), int(run_.config.train.keep_checkpoints), state().best_step,
                        trust_ ? trust_->clean_step() : 0);
    });
  });
  // Every rank has written all of its own by now: nobody writes to a file that is removed.
  folder.journal().checkpointed(state().step);
  run_.crew.note_save(seconds_["save"] + (trust_ ? trust_->all_s() : 0));
}

bool TrainingLoop::end_asked() {
  std::string asked;
  if (run_.crew.leads() && end_requested(run_.folder.path())) asked = "yes";
  run_.crew.group().broadcast(asked, 0, "look for a stop request");
  return !asked.empty();
}

int TrainingLoop::finish() {
  trust_->look_at_all(state().step);
  if (run_.crew.leads()) {
    trust_->note();
    save("final");
  }
  narrator_.finished(learner_, seconds_);
  narrator_.spent("saving");
  narrator_.settle(run_.crew.timeout_s());
  return kExitFinished;
}

int TrainingLoop::end_as_asked() {
  asked_to_end_ = true;
  trust_->look_at_all(state().step);
  if (saved_step_ != state().step) checkpoint();
  if (run_.crew.leads()) save("last");
  narrator_.spent("saving");
  narrator_.settle(run_.crew.timeout_s());
  return kExitFinished;
}

int TrainingLoop::stop(const std::string& why) {
  run_.crew.together("keep finished chunks", [&] { run_.folder.journal().flush(); });
  if (run_.crew.leads()) {
    save("last");
    spdlog::warn("{}: stopped in step {}, finished chunks are kept; start again to go on", why,
                 state().step);
  }
  trust_->look_at_all(state().step);
  if (run_.crew.leads()) trust_->note();
  narrator_.settle(run_.crew.timeout_s());
  return kExitRequeue;
}

void TrainingLoop::give_up() {
  if (run_.crew.leads()) save("last");
  throw make_error(kExitNoProgress, "the gradient was not finite in ",
                   counted(state().nonfinite_in_a_row, "step"), " in a row, last in step ",
                   state().step,
                   "; z as it was before them is in experts/last.safetensors: start another "
                   "run_dir with that as train.init_from and a lower train.learning_rate, or "
                   "with model.dtype: float32");
}

}  // namespace svfleet
