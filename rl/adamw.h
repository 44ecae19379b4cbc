// AdamW on float32 vectors (Loshchilov & Hutter 2019), bit-reproducible: plain loops, no reduction
// whose order could change. Global-norm clipping and the learning-rate schedule.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace svfleet {

struct AdamWOptions {
  double learning_rate = 5e-3;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0;  // decoupled: p -= lr * weight_decay * p, pulls z to 1
};

// One update. `updates` counts calls before this one.
void adamw_step(const AdamWOptions& options, int64_t updates, std::span<float> p,
                std::span<float> m, std::span<float> v, std::span<const float> gradient);

// L2 norm in float64, summed in index order.
double global_norm(std::span<const float> values);
// Scales in place to at most `limit` (0 = off); returns the norm before.
double clip_global_norm(std::span<float> gradient, double limit);

enum class Schedule { kConstant, kCosine };
Schedule schedule(std::string_view name);  // constant, cosine
// Factor on the learning rate of step `step` (from 0) of `steps`, after `warmup` linear steps.
double schedule_factor(Schedule schedule, int64_t step, int64_t steps, int64_t warmup);

}  // namespace svfleet
