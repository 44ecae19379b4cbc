#include "coordinator/training/chunks_of_step.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <utility>

#include "checkpoints/payload.h"
#include "comm/clock.h"
#include "comm/counted.h"
#include "comm/error.h"
#include "coordinator/training/in_flight.h"
#include "coordinator/training/population.h"

namespace svfleet {

ChunksOfStep::ChunksOfStep(const TrainingRun& run, std::vector<Trainee>& trainees,
                           Narrator& narrator, double load_s)
    : run_(run),
      trainees_(trainees),
      active_(active_of(trainees)),
      narrator_(narrator),
      load_s_(load_s) {}

bool ChunksOfStep::compute() {
  int64_t pieces = 0;
  for (Trainee* one : active_) {
    one->own.clear();
    one->missing.clear();
    one->restored = 0;
    if (run_.crew.leads()) restore(*one);
    pieces = std::max(pieces, one->plan.plan.chunks_per_step);
  }
  const std::vector<int> missing = missing_pieces();
  const Replies replies = replies_of_missing();
  std::vector<FinishedChunk> restored;
  for (const Trainee* one : active_)
    restored.insert(restored.end(), one->own.begin(), one->own.end());
  narrator_.restored(step(), restored, pieces - int64_t(missing.size()), pieces);
  Handover handover;
  const auto worker = [&](Hand& hand) {
    work(hand, replies, handover);
    std::lock_guard lock(mutex_);
    handled_.most_in_flight = std::max(handled_.most_in_flight, hand.most());
    handled_.longest_held_s = std::max(handled_.longest_held_s, hand.longest_s());
  };
  const auto report = [&](const ShareReport& now) {
    if (!missing.empty()) narrator_.handing_out(load_s_);
    narrator_.at_work(step(), now);
  };
  if (!run_.crew.share(missing, "chunks", worker, report)) return false;
  for (const Trainee* one : active_) {
    // The hash is made anew from today's p: an update that never reached the policy shows here.
    const std::string today = z_hash(as_expert(*run_.base.basis, one->learner.z()));
    for (const FinishedChunk& chunk : one->own) check_receipt(chunk, step(), today);
  }
  return true;
}

// On rank 0, which alone has the journal.
void ChunksOfStep::restore(Trainee& one) const {
  const auto& [name, config, plan] = one.plan;
  std::vector<std::string> ignored;
  one.own = run_.folder.journal().read(step(), one.policy.hash, &ignored, plan.rules.expert);
  for (const std::string& line : ignored) spdlog::warn("chunk not used: {}", line);
  // Of a process with chunks of another size: what a number stands for has changed.
  const size_t cut_otherwise = std::erase_if(one.own, [&](const FinishedChunk& chunk) {
    return chunk.prompts != config.train.chunk_size() || chunk.chunk >= plan.chunks_per_step;
  });
  if (cut_otherwise)
    spdlog::warn("step {}: {} of another train.{} computed again", step(),
                 counted(int64_t(cut_otherwise), "finished chunk"),
                 config.train.evolves() ? "members_per_chunk" : "prompts_per_chunk");
  for (int c = 0; c < plan.chunks_per_step; ++c)
    if (std::none_of(one.own.begin(), one.own.end(),
                     [&](const FinishedChunk& chunk) { return chunk.chunk == c; }))
      one.missing.insert(c);
  one.restored = int64_t(one.own.size());
}

std::vector<int> ChunksOfStep::missing_pieces() const {
  if (trainees_.size() > 1) {
    std::string told;
    for (const Trainee* one : active_) {
      std::vector<int64_t> numbers{int64_t(one->missing.size())};
      numbers.insert(numbers.end(), one->missing.begin(), one->missing.end());
      put_numbers(told, numbers.data(), numbers.size());
    }
    run_.crew.group().broadcast(told, 0, "tell missing chunks");
    std::string_view left = told;
    for (Trainee* one : active_) {
      std::vector<int64_t> count, numbers;
      SVFLEET_CHECK(take_numbers(left, 1, count) && take_numbers(left, uint64_t(count[0]), numbers),
                    "missing chunks in ", told.size(), " bytes");
      one->missing = {numbers.begin(), numbers.end()};
    }
  }
  std::set<int> pieces;
  for (const Trainee* one : active_) pieces.insert(one->missing.begin(), one->missing.end());
  return {pieces.begin(), pieces.end()};
}

Replies ChunksOfStep::replies_of_missing() const {
  std::string told;
  int64_t count = 0;
  if (run_.crew.leads())
    for (const Trainee* one : active_) {
      if (one->missing.empty()) continue;
      std::vector<std::string> ignored;
      std::vector<FinishedReply> found = run_.folder.journal().read_replies(
          step(), one->policy.hash, &ignored, one->plan.plan.rules.expert);
      for (const std::string& line : ignored) spdlog::warn("reply not used: {}", line);
      const TrainConfig& train = one->plan.config.train;
      std::erase_if(found, [&](const FinishedReply& reply) {
        const int64_t place =
            train.evolves() ? reply.place.member : reply.place.position - one->state().position;
        return !one->missing.contains(int(place / train.chunk_size()));
      });
      count += int64_t(found.size());
      told += packed(found);
    }
  if (count > 0)
    spdlog::info("step {}: {} finished {} of unfinished chunks restored", step(), count,
                 count == 1 ? "reply" : "replies");
  run_.crew.group().broadcast(told, 0, "tell finished replies");
  std::vector<std::string> hashes;
  for (const Trainee& one : trainees_) hashes.push_back(one.policy.hash);
  return {unpacked(told), step(), std::move(hashes), &run_.folder.journal()};
}

// The members of a population are entries of a policy that is made for their chunk alone, and given
// answers are not written at all: there is no batch that several pieces could share.
void ChunksOfStep::work(Hand& hand, const Replies& replies, Handover& handover) {
  const Config& config = run_.config;
  const ChunkRules& rules = active_.front()->plan.plan.rules;
  if (rules.method == Method::kEvolution || rules.method == Method::kAnswers) {
    while (const auto piece = hand.take()) {
      narrator_.handing_out(load_s_);
      keep(config.train.evolves() ? compute_members(*piece, replies)
                                  : compute_together(run_.base, works_of(*piece), replies));
      hand.finished(*piece);
    }
    return;
  }
  Flight flight{run_.base, replies, handover, flight_limit(config.train.rows_per_worker)};
  for (const Trainee* one : active_) {
    flight.piece_rows += one->plan.config.train.chunk_size() * one->plan.plan.rules.samples;
    for (const TaskSpec& task : one->plan.config.tasks)
      flight.longest_reply = std::max<int64_t>(flight.longest_reply, task.max_new_tokens);
  }
  flight.works = [&](int piece) {
    narrator_.handing_out(load_s_);
    return works_of(piece);
  };
  flight.keep = [&](std::vector<FinishedChunk> finished) { keep(std::move(finished)); };
  work_in_flight(hand, flight);
}

std::vector<FinishedChunk> ChunksOfStep::compute_members(int piece, const Replies& replies) const {
  const Trainee& one = *active_.front();
  const int64_t size = run_.config.train.members_per_chunk;
  const Policy members =
      with_members(run_.base, one.policy, one.learner.members(piece * size, size));
  return compute_together(run_.base, {work_of(one, piece, members)}, replies);
}

std::vector<ChunkWork> ChunksOfStep::works_of(int piece) const {
  std::vector<ChunkWork> works;
  for (const Trainee* one : active_)
    if (trainees_.size() == 1 || one->missing.contains(piece))
      works.push_back(work_of(*one, piece, one->policy));
  return works;
}

ChunkWork ChunksOfStep::work_of(const Trainee& one, int chunk, const Policy& policy) const {
  ChunkWork work{&policy, one.plan.plan.rules, chunk,
                 one.plan.plan.prompts(one.plan.config, one.state().position, chunk)};
  work.rules.run_id = run_.folder.run_id();
  work.rules.step = step();
  const int64_t every = one.plan.config.train.log_kl_every;
  work.rules.measure_kl = every > 0 && work.rules.step % every == 0;
  if (trainees_.size() > 1)
    for (ChunkPrompt& prompt : work.prompts) prompt.entry = policy.entry;
  return work;
}

void ChunksOfStep::keep(std::vector<FinishedChunk> finished) {
  Stopwatch watch;
  for (const FinishedChunk& chunk : finished) run_.folder.journal().add(chunk);
  std::lock_guard lock(mutex_);
  journal_s_ += watch.lap();
  for (FinishedChunk& chunk : finished)
    trainees_[size_t(chunk.expert)].own.push_back(std::move(chunk));
}

}  // namespace svfleet
