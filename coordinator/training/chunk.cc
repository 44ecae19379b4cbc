#include "coordinator/training/chunk.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "comm/clock.h"
#include "comm/error.h"
#include "comm/stage.h"
#include "coordinator/training/chunk_tally.h"
#include "coordinator/training/population.h"
#include "coordinator/training/sampled.h"
#include "rl/objective.h"

namespace svfleet {
namespace {

using nlohmann::json;
using LogProbs = std::vector<std::vector<std::vector<float>>>;  // by group, reply, token

// What the base model, the same weights without z, gives these replies; empty where nobody asks.
LogProbs see(const Base& base, const ChunkRules& rules, const Sampled& sampled) {
  // A KL is measured on the policy's own replies.
  if (rules.method != Method::kPolicyGradient) return {};
  if (rules.kl_beta <= 0 && !rules.measure_kl) return {};
  std::vector<ReplyGroup> groups;
  for (size_t g = 0; g < sampled.prompts.size(); ++g) groups.push_back(sampled.group(g));
  return reply_log_probs(*base.weights, Adapter(), groups, rules.temperature);
}

// Rewards, advantages and weights of each group.
struct Judged {
  std::vector<std::vector<SampleOutcome>> outcomes;
  std::vector<GroupObjective> groups;
};

// The same weight for each right text, and none for the others.
GroupObjective likelihood(const ChunkRules& rules, TruncatedRule cut,
                          const std::vector<SampleOutcome>& outcomes) {
  GroupObjective group;
  group.skipped = true;
  for (const SampleOutcome& outcome : outcomes) {
    const bool counts =
        rules.method == Method::kAnswers || (stands(outcome.ended, cut) && is_right(outcome.score));
    group.rewards.push_back(counts ? outcome.score : 0);
    group.advantages.push_back(counts);
    group.counts.push_back(counts);
    group.weights.push_back(counts ? 1 / rules.length() : 0);
    group.truncated += !outcome.ended;
    if (!counts) continue;
    group.has_signal = true;
    group.skipped = false;
    ++group.counted;
    group.tokens += outcome.tokens;
    group.score_sum += outcome.score;
  }
  return group;
}

GroupObjective objective_of(const ChunkRules& rules, const ObjectiveOptions& options,
                            const std::vector<SampleOutcome>& outcomes) {
  if (rules.method == Method::kPolicyGradient) return group_objective(options, outcomes);
  if (rules.method == Method::kEvolution) return rewards_alone(options, outcomes);
  return likelihood(rules, options.truncated, outcomes);
}

Judged judge(const ChunkRules& rules, const std::vector<ChunkPrompt>& prompts,
             const Sampled& sampled, const LogProbs& of_base, ChunkTally& tally) {
  ObjectiveOptions objective{rules.baseline,        rules.reward_right, rules.reward_wrong,
                             TruncatedRule::kWrong, rules.token_length, rules.kl_beta,
                             rules.kl_in_reward};
  tally.kl_measured = !of_base.empty();
  Judged judged;
  for (size_t g = 0; g < prompts.size(); ++g) {
    const ChunkPrompt& prompt = prompts[g];
    objective.truncated = prompt.spec->truncated;
    std::vector<SampleOutcome>& outcomes = judged.outcomes.emplace_back();
    for (int s = 0; s < sampled.samples; ++s) {
      enter(Stage::kScore);
      const Rollout& rollout = sampled.at(g, s);
      SampleOutcome& outcome = outcomes.emplace_back();
      outcome.score =
          score_reply(prompt.spec->rewards, prompt.spec->prefill + rollout.text, prompt.item->gold);
      outcome.tokens = int64_t(rollout.tokens.size());
      outcome.ended = rollout.ended;
      if (of_base.empty()) continue;
      const KlEstimates own = kl_estimates(rollout.log_probs, of_base[g][size_t(s)]);
      outcome.kl = own.k1;
      tally.kl.k1 += own.k1, tally.kl.k2 += own.k2, tally.kl.k3 += own.k3;
    }
    judged.groups.push_back(objective_of(rules, objective, outcomes));
  }
  return judged;
}

// Did sampling and gradient see the same policy?
void compare(const std::vector<float>& drawn, const std::vector<float>& again, ChunkTally& tally) {
  SVFLEET_CHECK(drawn.size() == again.size(), drawn.size(), " vs ", again.size());
  for (size_t i = 0; i < drawn.size(); ++i) {
    const double gap = std::abs(double(drawn[i]) - double(again[i]));
    tally.mismatch_sum += gap;
    tally.mismatch_max = std::max(tally.mismatch_max, gap);
    ++tally.mismatch_tokens;
  }
}

// Weights -> z gradients, of the groups that have a say, one behind the other in `finished`. Not
// finite where the replies are not.
void differentiate(const Base& base, const Policy& policy, const ChunkRules& rules,
                   const Sampled& sampled, const Judged& judged, ChunkTally& tally,
                   FinishedChunk& finished) {
  std::vector<ReplyGroup> trained;
  std::vector<std::pair<size_t, std::vector<int>>> places;  // of each: its group, its samples
  for (size_t g = 0; g < judged.groups.size(); ++g) {
    const GroupObjective& objective = judged.groups[g];
    if (objective.skipped) continue;
    ReplyGroup group;
    group.prompt = &sampled.prompts[g].tokens;
    group.entry = sampled.prompts[g].entry;
    std::vector<int> samples;
    for (int s = 0; s < sampled.samples; ++s) {
      // The policy's own replies are all compared with what was said of them when they were drawn.
      if (rules.method != Method::kPolicyGradient && !objective.counts[size_t(s)]) continue;
      ReplyGroup::Reply reply{&sampled.at(g, s).tokens, objective.weights[size_t(s)]};
      if (objective.counts[size_t(s)]) reply.kl_weight = rules.kl_beta / rules.length();
      group.replies.push_back(reply);
      samples.push_back(s);
    }
    trained.push_back(std::move(group));
    places.emplace_back(g, std::move(samples));
  }
  const KlLoss kl = rules.kl_in_reward ? KlLoss::kNone : rules.kl_loss;
  const GradientResult gradient =
      z_gradient(*base.weights, policy.adapter(), trained,
                 {rules.temperature, kl, rules.gradient_tokens, rules.again});
  tally.memory = {double(gradient.predicted_bytes), double(gradient.peak_bytes)};
  for (size_t t = 0; t < trained.size(); ++t)
    for (size_t r = 0; r < trained[t].replies.size(); ++r) {
      const auto& [g, samples] = places[t];
      if (rules.method == Method::kPolicyGradient)
        compare(sampled.at(g, samples[r]).log_probs, gradient.log_probs[t][r], tally);
      else
        tally.loss.add(gradient.log_probs[t][r]);
    }
  finished.groups = int64_t(trained.size());
  for (const std::vector<float>& dz : gradient.dz)
    finished.gradient.insert(finished.gradient.end(), dz.begin(), dz.end());
  if (sampled.finite()) return;
  finished.groups = 1;
  finished.gradient.assign(policy.z.size(), std::numeric_limits<float>::quiet_NaN());
}

void measure_fitness(const ChunkRules& rules, const std::vector<ChunkPrompt>& prompts,
                     const Sampled& sampled, const Judged& judged, ChunkTally& tally) {
  std::vector<bool> finite;
  for (size_t g = 0; g < prompts.size(); ++g) {
    finite.push_back(true);
    for (int s = 0; s < sampled.samples; ++s)
      if (!is_finite(sampled.at(g, s))) finite.back() = false;
  }
  tally.fitness = fitness_of(prompts, judged.groups, finite, rules.reward_wrong);
}

void count(const std::vector<ChunkPrompt>& prompts, const Sampled& sampled, const Judged& judged,
           ChunkTally& tally) {
  for (size_t g = 0; g < prompts.size(); ++g) {
    const GroupObjective& objective = judged.groups[g];
    ++tally.groups;
    tally.signal_groups += objective.has_signal;
    (objective.skipped ? tally.skipped_groups : tally.trained_groups)++;
    tally.truncated += objective.truncated;
    for (const double reward : objective.rewards) tally.reward_sum += reward;
    Tally& task = tally.by_task.at(size_t(prompts[g].task));
    for (const SampleOutcome& outcome : judged.outcomes[g])
      task.add(outcome.score, outcome.ended, outcome.tokens, prompts[g].spec->truncated);
    task.counted += objective.counted;
    task.score_sum += objective.score_sum;
  }
  for (const Rollout& rollout : sampled.rollouts) tally.entropy_sum += rollout.entropy;
}

// The chunk's first replies, for people.
json to_read(const Base& base, const ChunkRules& rules, const std::vector<ChunkPrompt>& prompts,
             const Sampled& sampled, const Judged& judged) {
  json texts = json::array();
  for (size_t g = 0; g < prompts.size(); ++g)
    for (size_t s = 0; s < size_t(rules.samples) && int(texts.size()) < rules.sampled_texts; ++s) {
      const SampleOutcome& outcome = judged.outcomes[g][s];
      texts.push_back({{"task", prompts[g].spec->name},
                       {"position", prompts[g].position},
                       {"sample", s},
                       {"prompt", base.tokenizer->decode(sampled.prompts[g].tokens, false)},
                       {"reply", sampled.at(g, int(s)).text},
                       {"gold", prompts[g].item->gold.answer},
                       {"score", outcome.score},
                       {"reward", judged.groups[g].rewards[s]},
                       {"advantage", judged.groups[g].advantages[s]},
                       {"ended", outcome.ended},
                       {"tokens", outcome.tokens}});
      if (rules.method == Method::kEvolution) texts.back()["member"] = prompts[g].member;
    }
  return texts;
}

// By which z its replies were made: read back from what they were made with. Of a population, the
// policy round which it is.
std::string receipt(const Base& base, const ChunkWork& work) {
  if (work.rules.method == Method::kEvolution)
    return z_hash(as_expert(*base.basis, work.policy->z));
  const int entry = work.prompts.front().entry;
  for (const ChunkPrompt& prompt : work.prompts)
    SVFLEET_CHECK(prompt.entry == entry, "entries ", entry, " and ", prompt.entry, " in chunk ",
                  work.chunk);
  return hash_in_force(base, *work.policy, entry);
}

// What comes after its replies, which took `generate_s`.
FinishedChunk finish(const Base& base, const ChunkWork& work, const Sampled& sampled,
                     double generate_s) {
  const ChunkRules& rules = work.rules;
  const std::vector<ChunkPrompt>& prompts = work.prompts;
  Stopwatch watch;
  ChunkTally tally(rules.tasks);
  FinishedChunk finished;
  tally.seconds.generate = generate_s;
  const LogProbs of_base = see(base, rules, sampled);
  tally.seconds.base = watch.lap();
  const Judged judged = judge(rules, prompts, sampled, of_base, tally);
  tally.seconds.score = watch.lap();
  if (rules.method == Method::kEvolution)
    measure_fitness(rules, prompts, sampled, judged, tally);
  else
    differentiate(base, *work.policy, rules, sampled, judged, tally, finished);
  tally.seconds.gradient = watch.lap();
  count(prompts, sampled, judged, tally);

  finished.run_id = rules.run_id;
  finished.step = rules.step;
  finished.chunk = work.chunk;
  finished.expert = rules.expert;
  finished.prompts =
      rules.method == Method::kEvolution ? int64_t(tally.fitness.size()) : int64_t(prompts.size());
  finished.z_hash = receipt(base, work);
  PackedTally packed = pack(tally);
  finished.counts = std::move(packed.counts);
  finished.sums = std::move(packed.sums);
  finished.texts = to_read(base, rules, prompts, sampled, judged)
                       .dump(-1, ' ', false, json::error_handler_t::replace);
  return finished;
}

}  // namespace

FinishedChunk compute_chunk(const Base& base, const Policy& policy, const ChunkRules& rules,
                            int chunk, const std::vector<ChunkPrompt>& prompts,
                            const Replies& replies) {
  return std::move(compute_together(base, {{&policy, rules, chunk, prompts}}, replies).front());
}

std::vector<FinishedChunk> compute_together(const Base& base, const std::vector<ChunkWork>& works,
                                            const Replies& replies) {
  Stopwatch watch;
  const std::vector<Sampled> sampled = sample(base, works, replies);
  return finish_together(base, works, sampled, watch.lap());
}

std::vector<FinishedChunk> finish_together(const Base& base, const std::vector<ChunkWork>& works,
                                           const std::vector<Sampled>& sampled, double generate_s) {
  // Of the time that they share, each has as much as it has of the tokens.
  int64_t all_tokens = 0;
  for (const Sampled& one : sampled) all_tokens += one.tokens();
  std::vector<FinishedChunk> finished;
  for (size_t w = 0; w < works.size(); ++w)
    finished.push_back(finish(base, works[w], sampled[w],
                              works.size() == 1 || all_tokens == 0
                                  ? generate_s / double(works.size())
                                  : generate_s * double(sampled[w].tokens()) / double(all_tokens)));
  return finished;
}

void check_receipt(const FinishedChunk& chunk, int64_t step, const std::string& z_hash) {
  if (chunk.step == step && chunk.z_hash == z_hash) return;
  throw make_error(kExitInternal, "chunk ", chunk.chunk, " of step ", chunk.step,
                   " was made with policy ", chunk.z_hash, ", but the trainer is at step ", step,
                   " with policy ", z_hash, "; nothing was trained on it");
}

}  // namespace svfleet
