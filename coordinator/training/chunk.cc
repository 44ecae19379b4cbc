#include "coordinator/training/chunk.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "comm/clock.h"
#include "comm/error.h"
#include "comm/stage.h"
#include "rl/objective.h"

namespace svfleet {
namespace {

using nlohmann::json;

ReplyGroup group_of(const Prompt& prompt, const std::vector<const Rollout*>& rollouts) {
  ReplyGroup group;
  group.prompt = &prompt.tokens;
  for (const Rollout* rollout : rollouts) group.replies.push_back({&rollout->tokens});
  return group;
}

}  // namespace

FinishedChunk compute_chunk(const Base& base, const Policy& policy, const ChunkRules& rules,
                            int chunk, const std::vector<ChunkPrompt>& chunk_prompts) {
  Stopwatch watch;
  json seconds, groups = json::array(), texts = json::array();

  // Prompts -> rollouts.
  std::vector<Prompt> prompts;
  for (const ChunkPrompt& p : chunk_prompts)
    prompts.push_back(make_prompt(base, *p.spec, *p.item, p.position));
  SamplingOptions sampling;  // untruncated: log-probabilities are of the same distribution
  sampling.temperature = rules.temperature;
  sampling.seed = rules.seed;
  sampling.step = rules.step;
  const std::vector<Rollout> rollouts = generate(
      *base.model, *base.tokenizer, prompts, rules.samples, sampling, policy.sampling, policy.d);
  seconds["generate"] = watch.lap();

  std::vector<ReplyGroup> reply_groups;
  for (size_t g = 0; g < prompts.size(); ++g) {
    std::vector<const Rollout*> own;
    for (int s = 0; s < rules.samples; ++s) own.push_back(&rollouts[g * rules.samples + s]);
    reply_groups.push_back(group_of(prompts[g], own));
  }

  // KL(policy || base) of each reply: the base is the same weights without z.
  std::vector<std::vector<std::vector<float>>> base_log_probs;
  KlEstimates kl;
  const bool with_base = rules.kl_beta > 0 || rules.measure_kl;
  if (with_base) {
    base_log_probs =
        reply_log_probs(*base.model, reply_groups, Apply::kFrozen, policy.z, rules.temperature);
    seconds["base"] = watch.lap();
  }

  // Rollouts -> rewards -> advantages -> weights.
  ObjectiveOptions objective{rules.baseline,        rules.reward_right, rules.reward_wrong,
                             TruncatedRule::kWrong, rules.token_length, rules.kl_beta,
                             rules.kl_in_reward};
  std::vector<ReplyGroup> trained;
  std::vector<size_t> trained_group;  // index of each trained group in the chunk
  double entropy = 0;
  for (size_t g = 0; g < prompts.size(); ++g) {
    const ChunkPrompt& prompt = chunk_prompts[g];
    objective.truncated = prompt.spec->truncated;
    std::vector<SampleOutcome> outcomes;
    json right = json::array(), tokens = json::array(), ended = json::array();
    for (int s = 0; s < rules.samples; ++s) {
      enter(Stage::kScore);
      const Rollout& rollout = rollouts[g * rules.samples + s];
      SampleOutcome outcome;
      outcome.score =
          score_reply(prompt.spec->rewards, prompt.spec->prefill + rollout.text, prompt.item->gold);
      outcome.tokens = int64_t(rollout.tokens.size());
      outcome.ended = rollout.ended;
      if (with_base) {
        KlEstimates own = kl_estimates(rollout.log_probs, base_log_probs[g][s]);
        outcome.kl = own.k1;
        kl.k1 += own.k1, kl.k2 += own.k2, kl.k3 += own.k3;
      }
      entropy += rollout.entropy;
      tokens.push_back(outcome.tokens);
      ended.push_back(outcome.ended);
      outcomes.push_back(outcome);
    }
    const GroupObjective result = group_objective(objective, outcomes);
    for (int s = 0; s < rules.samples; ++s) right.push_back(outcomes[s].score);
    groups.push_back({{"position", prompt.position},
                      {"task", prompt.task},
                      {"item", prompt.item->index},
                      {"scores", right},
                      {"tokens", tokens},
                      {"ended", ended},
                      {"rewards", result.rewards},
                      {"counted", result.counted},
                      {"truncated", result.truncated},
                      {"score_sum", result.score_sum},
                      {"signal", result.has_signal},
                      {"skipped", result.skipped}});
    for (int s = 0; s < rules.samples && int(texts.size()) < rules.sampled_texts; ++s)
      texts.push_back({{"task", prompt.spec->name},
                       {"position", prompt.position},
                       {"sample", s},
                       {"prompt", base.tokenizer->decode(prompts[g].tokens, false)},
                       {"reply", rollouts[g * rules.samples + s].text},
                       {"gold", prompt.item->gold.answer},
                       {"score", outcomes[s].score},
                       {"reward", result.rewards[s]},
                       {"advantage", result.advantages[s]},
                       {"ended", outcomes[s].ended},
                       {"tokens", outcomes[s].tokens}});
    if (result.skipped) continue;
    ReplyGroup group = reply_groups[g];
    for (int s = 0; s < rules.samples; ++s) {
      group.replies[s].weight = result.weights[s];
      group.replies[s].kl_weight =
          result.counts[s] ? rules.kl_beta / (rules.token_length > 0 ? rules.token_length : 1) : 0;
    }
    trained.push_back(std::move(group));
    trained_group.push_back(g);
  }
  seconds["score"] = watch.lap();

  // Weights -> z gradient.
  GradientOptions options{rules.temperature, rules.gradient,
                          rules.kl_in_reward ? KlLoss::kNone : rules.kl_loss};
  GradientResult gradient;
  gradient.dz.assign(policy.z.size(), 0);
  if (!trained.empty()) gradient = z_gradient(*base.model, trained, policy.z, options);
  // Replies drawn from NaN are without meaning and mostly all the same: a group skipped for want of
  // a signal would hide them. The step must see them.
  if (!std::isfinite(entropy)) gradient.dz.assign(policy.z.size(), std::nanf(""));
  seconds["gradient"] = watch.lap();
  // Replies drawn from NaNs are no replies: without this they would just count as wrong.
  if (std::any_of(rollouts.begin(), rollouts.end(), [](const Rollout& r) { return !r.finite; }))
    gradient.dz.assign(policy.z.size(), std::numeric_limits<float>::quiet_NaN());

  // Did sampling and gradient see the same policy? |log pi_sample - log pi_train| per token.
  double mismatch_sum = 0, mismatch_max = 0;
  int64_t mismatch_tokens = 0;
  for (size_t g = 0; g < trained.size(); ++g)
    for (int s = 0; s < rules.samples; ++s) {
      const auto& sampled = rollouts[trained_group[g] * rules.samples + s].log_probs;
      const auto& recomputed = gradient.log_probs[g][s];
      SVFLEET_CHECK(sampled.size() == recomputed.size(), sampled.size(), " vs ", recomputed.size());
      for (size_t i = 0; i < sampled.size(); ++i) {
        double gap = std::abs(double(sampled[i]) - double(recomputed[i]));
        mismatch_sum += gap;
        mismatch_max = std::max(mismatch_max, gap);
        ++mismatch_tokens;
      }
    }

  FinishedChunk finished;
  finished.run_id = rules.run_id;
  finished.step = rules.step;
  finished.chunk = chunk;
  finished.z_hash = hash_in_force(base, policy);
  finished.gradient = std::move(gradient.dz);
  finished.summary = json{
      {"groups", groups},
      {"entropy", entropy},
      {"kl", with_base ? json{{"k1", kl.k1}, {"k2", kl.k2}, {"k3", kl.k3}} : json()},
      {"mismatch", {{"sum", mismatch_sum}, {"max", mismatch_max}, {"tokens", mismatch_tokens}}},
      {"seconds", seconds},
      {"texts", texts}}.dump(-1, ' ', false, json::error_handler_t::replace);
  return finished;
}

void check_receipt(const FinishedChunk& chunk, int64_t step, const std::string& z_hash) {
  if (chunk.step == step && chunk.z_hash == z_hash) return;
  throw make_error(kExitInternal, "chunk ", chunk.chunk, " of step ", chunk.step,
                   " was made with policy ", chunk.z_hash, ", but the trainer is at step ", step,
                   " with policy ", z_hash, "; nothing was trained on it");
}

}  // namespace svfleet
