#include "coordinator/training/sampled.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "cluster/signals.h"
#include "comm/clock.h"
#include "comm/error.h"

namespace svfleet {

bool is_finite(const Rollout& rollout) {
  return rollout.finite && std::isfinite(rollout.entropy);
}

namespace {

// Instead of replies, the items' answers.
void give_answers(const Base& base, const std::vector<ChunkPrompt>& chunk_prompts,
                  Sampled& sampled) {
  for (const ChunkPrompt& p : chunk_prompts) {
    const Prompt& prompt = sampled.prompts[sampled.rollouts.size()];
    const int end =
        answer_end(base.weights->architecture(), *base.tokenizer, base.chat.get(), *p.spec, prompt);
    Rollout& answer = sampled.rollouts.emplace_back();
    answer.tokens = answer_tokens(*base.tokenizer, *p.item, end);
    answer.text = p.item->gold.answer;
    answer.ended = true;
  }
}

Sampled asked(const Base& base, const ChunkWork& work) {
  Sampled sampled;
  sampled.samples = work.rules.samples;
  for (const ChunkPrompt& p : work.prompts) {
    Prompt& prompt = sampled.prompts.emplace_back(make_prompt(base, *p.spec, *p.item, p.position));
    prompt.entry = p.entry;
    prompt.drawn_by = DrawKey{work.rules.seed, work.rules.step};
  }
  return sampled;
}

ReplyPlace place_of(const ChunkWork& work, const Sampled& sampled, size_t group, int sample) {
  return {sampled.prompts[group].key, work.prompts[group].member, sample, work.rules.expert};
}

SamplingOptions options_of(const ChunkRules& rules) {
  SamplingOptions sampling;  // untruncated: log-probabilities are of the same distribution
  sampling.temperature = rules.temperature;
  return sampling;
}

}  // namespace

Sampler::Sampler(const Base& base, const ChunkWork& like, const Replies& replies)
    : base_(base),
      like_(like),
      replies_(replies),
      adapter_(like.rules.method == Method::kRightReplies ? Adapter() : like.policy->adapter()) {}

Sampler::~Sampler() = default;

void Sampler::begin(int number, std::vector<ChunkWork> works) {
  Stopwatch watch;
  if (!engine_)
    engine_ = std::make_unique<Engine>(*base_.weights, *base_.tokenizer, adapter_,
                                       options_of(like_.rules));
  const auto piece = pieces_.insert(pieces_.end(), Piece{.number = number});
  for (size_t w = 0; w < works.size(); ++w) {
    const ChunkWork& work = works[w];
    SVFLEET_CHECK(
        work.policy->table == like_.policy->table && work.rules.method == like_.rules.method &&
            work.rules.temperature == like_.rules.temperature,
        "chunk ", work.chunk, " of expert ", work.rules.expert, " has a batch of its own");
    Sampled& sampled = piece->sampled.emplace_back(asked(base_, work));
    sampled.rollouts.resize(sampled.prompts.size() * size_t(sampled.samples));
    for (size_t g = 0; g < sampled.prompts.size(); ++g) {
      std::vector<int> missing;
      for (int s = 0; s < sampled.samples; ++s)
        if (const FinishedReply* reply = replies_.find(place_of(work, sampled, g, s)))
          sampled.at(g, s) = rollout_of(*reply);
        else
          missing.push_back(s);
      if (missing.empty()) continue;
      piece->left += int64_t(missing.size());
      asked_for_[engine_->submit({sampled.prompts[g], missing})] = {piece, w, g};
    }
  }
  piece->works = std::move(works);
  piece->seconds = watch.lap();
}

int64_t Sampler::rows() const {
  int64_t rows = 0;
  for (const Piece& piece : pieces_) rows += piece.left;
  return rows;
}

int64_t Sampler::longest_prompt() const {
  int64_t longest = 0;
  for (const Piece& piece : pieces_)
    for (const Sampled& sampled : piece.sampled)
      for (const Prompt& prompt : sampled.prompts)
        longest = std::max(longest, int64_t(prompt.tokens.size()));
  return longest;
}

std::vector<int> Sampler::unfinished() const {
  std::vector<int> numbers;
  for (const Piece& piece : pieces_)
    if (piece.left > 0) numbers.push_back(piece.number);
  return numbers;
}

void Sampler::step() {
  const int64_t all = rows();
  std::vector<int64_t> rows_before;
  for (const Piece& piece : pieces_) rows_before.push_back(piece.left);
  Stopwatch watch;
  for (Engine::Finished& done : engine_->step()) {
    const auto& [piece, w, g] = asked_for_.at(done.request);
    Sampled& sampled = piece->sampled[w];
    const int sample = done.rollout.sample;
    replies_.keep(place_of(piece->works[w], sampled, g, sample), done.rollout);
    sampled.at(g, sample) = std::move(done.rollout);
    --piece->left;
  }
  const double took_s = watch.lap();
  size_t p = 0;
  for (Piece& piece : pieces_) piece.seconds += took_s * double(rows_before[p++]) / double(all);
}

bool Sampler::has_finished() const {
  return std::any_of(pieces_.begin(), pieces_.end(),
                     [](const Piece& piece) { return piece.left == 0; });
}

std::optional<Sampler::Piece> Sampler::take_finished() {
  const auto found = std::find_if(pieces_.begin(), pieces_.end(),
                                  [](const Piece& piece) { return piece.left == 0; });
  if (found == pieces_.end()) return std::nullopt;
  Piece piece = std::move(*found);
  std::erase_if(asked_for_, [&](const auto& one) { return one.second.piece == found; });
  pieces_.erase(found);
  if (rows() == 0) {
    asked_for_.clear();
    engine_.reset();
  }
  return piece;
}

std::vector<Sampled> sample(const Base& base, const std::vector<ChunkWork>& works,
                            const Replies& replies) {
  if (works.front().rules.method != Method::kAnswers) {
    Sampler sampler(base, works.front(), replies);
    sampler.begin(0, works);
    while (sampler.rows() > 0) {
      if (stop_requested()) throw StopWork{};
      sampler.step();
    }
    return std::move(sampler.take_finished()->sampled);
  }
  std::vector<Sampled> sampled;
  for (const ChunkWork& work : works) {
    sampled.push_back(asked(base, work));
    give_answers(base, work.prompts, sampled.back());
  }
  return sampled;
}

}  // namespace svfleet
