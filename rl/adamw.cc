#include "rl/adamw.h"

#include <cmath>
#include <numbers>

#include "comm/error.h"

namespace svfleet {

void adamw_step(const AdamWOptions& o, int64_t updates, std::span<float> p, std::span<float> m,
                std::span<float> v, std::span<const float> gradient) {
  const size_t n = p.size();
  SVFLEET_CHECK(m.size() == n && v.size() == n && gradient.size() == n, n, " parameters, ",
                m.size(), " and ", v.size(), " moments, ", gradient.size(), " gradients");
  SVFLEET_CHECK(updates >= 0, updates);
  const auto t = static_cast<double>(updates + 1);
  const double correction1 = 1 - std::pow(o.beta1, t);
  const double correction2 = 1 - std::pow(o.beta2, t);
  const double decay = 1 - o.learning_rate * o.weight_decay;
  // State is float32; each element's arithmetic is float64, so that only storing rounds.
  for (size_t i = 0; i < n; ++i) {
    const double g = gradient[i];
    const double m1 = o.beta1 * m[i] + (1 - o.beta1) * g;
    const double v1 = o.beta2 * v[i] + (1 - o.beta2) * g * g;
    const double step = (m1 / correction1) / (std::sqrt(v1 / correction2) + o.epsilon);
    m[i] = static_cast<float>(m1);
    v[i] = static_cast<float>(v1);
    p[i] = static_cast<float>(decay * p[i] - o.learning_rate * step);
  }
}

double global_norm(std::span<const float> values) {
  double sum = 0;
  for (float x : values) sum += static_cast<double>(x) * x;
  return std::sqrt(sum);
}

double clip_global_norm(std::span<float> gradient, double limit) {
  const double norm = global_norm(gradient);
  // A NaN norm compares false: the caller sees it and skips the step.
  if (limit > 0 && norm > limit) {
    const double scale = limit / norm;
    for (float& g : gradient) g = static_cast<float>(g * scale);
  }
  return norm;
}

Schedule schedule(std::string_view name) {
  if (name == "constant") return Schedule::kConstant;
  if (name == "cosine") return Schedule::kCosine;
  throw user_error("unknown schedule '", name, "'; use constant or cosine");
}

double schedule_factor(Schedule schedule, int64_t step, int64_t steps, int64_t warmup) {
  if (step < warmup) return static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
  if (schedule == Schedule::kConstant || steps <= warmup) return 1;
  const double done = static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
  return 0.5 * (1 + std::cos(std::numbers::pi * (done < 1 ? done : 1)));
}

}  // namespace svfleet
