#include "coordinator/training/learner.h"

#include <algorithm>
#include <cmath>

#include "coordinator/training/best.h"
#include "worker/test_fault.h"

namespace svfleet {
namespace {

bool all_finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

}  // namespace

Update Learner::take(ExactTotal total, const ChunkTally& tally) {
  Update result;
  result.finite = total.finite;
  const int64_t counted = tally.all().counted;
  if (total.finite && tally.trained_groups > 0 && counted > 0) result = update(total.sum, counted);
  end_step(result);
  return result;
}

Update Learner::take(std::span<const double> fitness) {
  const FitnessSummary summary = summary_of(fitness);
  Update result;
  result.finite = summary.finite;
  if (summary.finite && summary.apart > 0)  // else the estimate is 0, and nothing was learnt
    result = move(evolution_gradient(perturbation(), centred_ranks(fitness), state_.p.size()));
  end_step(result);
  return result;
}

Perturbation Learner::perturbation() const {
  return {state_.seed, state_.step, rules_.config.train.perturbation};
}

std::vector<std::vector<float>> Learner::members(int64_t first, int64_t count) const {
  std::vector<std::vector<float>> all;
  RunState moved = state_;
  for (int64_t member = first; member < first + count; ++member) {
    moved.p = member_of(perturbation(), member, state_.p);
    all.push_back(z_of(moved));
  }
  return all;
}

void Learner::end_step(const Update& update) {
  if (update.finite) {
    state_.nonfinite_in_a_row = 0;
  } else {
    ++state_.nonfinite_in_a_row;
    ++state_.nonfinite_total;
  }
  state_.position += rules_.config.train.prompts_per_step;
  ++state_.step;
  if (test_fault_is("state")) state_.p[0] = -state_.p[0] - 1;
}

Update Learner::update(std::vector<double>& sum, int64_t counted) {
  for (double& dz : sum) dz /= double(counted);
  return move(rules_.core.chain_to_p(state_.p, sum));
}

Update Learner::move(std::vector<float> gradient) {
  const TrainConfig& train = rules_.config.train;
  Update result;
  result.gradient_norm = clip_global_norm(gradient, train.clip_norm);
  AdamWOptions options = rules_.optimizer;
  options.learning_rate *=
      schedule_factor(schedule(train.schedule), state_.step, train.steps, train.warmup_steps);
  result.learning_rate = options.learning_rate;
  RunState next = state_;
  adamw_step(options, next.updates++, next.p, next.m, next.v, gradient);
  result.finite = std::isfinite(result.gradient_norm) && all_finite(next.p) && all_finite(next.m) &&
                  all_finite(next.v) && all_finite(z_of(next));
  if (result.finite) state_ = std::move(next);
  return result;
}

bool Learner::validated(double score) {
  if (score <= state_.best_score) {
    ++state_.validations_since_best;
    return false;
  }
  state_.best_score = score;
  state_.best_step = state_.step;
  state_.validations_since_best = 0;
  return true;
}

bool Learner::finished() const {
  return is_finished(state_, rules_.config);
}

bool Learner::too_often_nonfinite() const {
  return state_.nonfinite_in_a_row >= rules_.config.train.max_nonfinite_steps;
}

bool Learner::validation_is_due() const {
  const int64_t every = rules_.config.train.validate_every;
  return every > 0 && state_.step % every == 0;
}

bool Learner::checkpoint_is_due() const {
  return state_.step % rules_.config.train.checkpoint_every == 0 || finished() ||
         too_often_nonfinite() || state_.best_step == state_.step;
}

std::vector<float> Learner::z_of(const RunState& state) const {
  return rules_.core.coefficients_of(state.p);
}

}  // namespace svfleet
