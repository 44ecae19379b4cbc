// The z gradient of a chunk, and log-probabilities of given replies. Prompts and common prefixes
// are computed once for all samples; logits exist only in blocks and only where a token is trained.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/model/model.h"

namespace svfleet {

// One prompt and the replies that take part.
struct ReplyGroup {
  const std::vector<int>* prompt = nullptr;
  struct Reply {
    const std::vector<int>* tokens = nullptr;  // as sampled
    double weight = 0;                         // of each token's log-probability
    double kl_weight = 0;                      // of KL(policy || base) as a loss, per token
  };
  std::vector<Reply> replies;
};

enum class KlLoss { kNone, kK2, kFull };

struct GradientOptions {
  double temperature = 1;
  Apply apply = Apply::kActivation;  // or kClosedForm
  KlLoss kl = KlLoss::kNone;
};

struct GradientResult {
  std::vector<float> dz;  // [all r]: d/dz of the loss below, unnormalised
  // Per group, reply, token: log pi of the sampled token in this pass's form.
  std::vector<std::vector<std::vector<float>>> log_probs;
};

// Loss = - sum weight log pi(token) + kl_weight * KL term per token, over all replies:
//   k2:   (log pi - log pi_base)^2 / 2 of the sampled token (its gradient is KL's, on-policy)
//   full: sum over the vocabulary of pi (log pi - log pi_base)
// with pi = softmax(logits / T). `z` [all r].
GradientResult z_gradient(const Model& model, const std::vector<ReplyGroup>& groups,
                          std::span<const float> z, const GradientOptions& options);

// Log-probabilities of the replies' tokens, per group, reply, token; no gradient.
std::vector<std::vector<std::vector<float>>> reply_log_probs(const Model& model,
                                                             const std::vector<ReplyGroup>& groups,
                                                             Apply apply, std::span<const float> z,
                                                             double temperature);

}  // namespace svfleet
