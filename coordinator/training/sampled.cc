#include "coordinator/training/sampled.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "cluster/signals.h"
#include "comm/error.h"

namespace svfleet {

bool is_finite(const Rollout& rollout) {
  return rollout.finite && std::isfinite(rollout.entropy);
}

namespace {

// Instead of replies, the items' answers.
void give_answers(const Base& base, const std::vector<ChunkPrompt>& chunk_prompts,
                  Sampled& sampled) {
  const int end = base.weights->architecture().stop_tokens.front();
  for (const ChunkPrompt& p : chunk_prompts) {
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

// Of all of them in one batch.
void sample_together(const Base& base, const std::vector<ChunkWork>& works, const Replies& replies,
                     std::vector<Sampled>& sampled) {
  const ChunkRules& rules = works.front().rules;
  for (const ChunkWork& work : works)
    SVFLEET_CHECK(
        work.policy->table == works.front().policy->table && work.rules.method == rules.method &&
            work.rules.temperature == rules.temperature,
        "chunk ", work.chunk, " of expert ", work.rules.expert, " has a batch of its own");
  SamplingOptions sampling;  // untruncated: log-probabilities are of the same distribution
  sampling.temperature = rules.temperature;
  const Adapter adapter =
      rules.method == Method::kRightReplies ? Adapter() : works.front().policy->adapter();
  Engine engine(*base.weights, *base.tokenizer, adapter, sampling);
  const auto place = [&](size_t w, size_t g, int s) {
    return ReplyPlace{sampled[w].prompts[g].key, works[w].prompts[g].member, s,
                      works[w].rules.expert};
  };
  std::vector<std::pair<size_t, size_t>> asked_for;  // by request: which of them, which prompt
  for (size_t w = 0; w < works.size(); ++w) {
    sampled[w].rollouts.resize(sampled[w].prompts.size() * size_t(sampled[w].samples));
    for (size_t g = 0; g < sampled[w].prompts.size(); ++g) {
      std::vector<int> missing;
      for (int s = 0; s < sampled[w].samples; ++s)
        if (const FinishedReply* reply = replies.find(place(w, g, s)))
          sampled[w].at(g, s) = rollout_of(*reply);
        else
          missing.push_back(s);
      if (missing.empty()) continue;
      engine.submit({sampled[w].prompts[g], missing});
      asked_for.emplace_back(w, g);
    }
  }
  while (!engine.idle()) {
    if (stop_requested()) throw StopWork{};
    for (Engine::Finished& done : engine.step()) {
      const auto [w, g] = asked_for[size_t(done.request)];
      replies.keep(place(w, g, done.rollout.sample), done.rollout);
      sampled[w].at(g, done.rollout.sample) = std::move(done.rollout);
    }
  }
}

}  // namespace

std::vector<Sampled> sample(const Base& base, const std::vector<ChunkWork>& works,
                            const Replies& replies) {
  std::vector<Sampled> sampled;
  for (const ChunkWork& work : works) sampled.push_back(asked(base, work));
  if (works.front().rules.method != Method::kAnswers)
    sample_together(base, works, replies, sampled);
  else
    for (size_t w = 0; w < works.size(); ++w) give_answers(base, works[w].prompts, sampled[w]);
  return sampled;
}

}  // namespace svfleet
