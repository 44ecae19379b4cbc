// The z gradient of a chunk, and log-probabilities of given replies. Prompts and common prefixes
// are computed once for all samples; logits exist only in blocks and only where a token is trained.
#pragma once

#include <vector>

#include "worker/model/adapter.h"
#include "worker/model/head.h"
#include "worker/model/weights.h"

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
  int entry = kOnlyExpert;  // of the adapter's table
};

// By group, reply, token.
using ReplyLogProbs = std::vector<std::vector<std::vector<float>>>;

struct GradientOptions {
  double temperature = 1;
  KlLoss kl = KlLoss::kNone;
};

struct GradientResult {
  std::vector<int> entries;  // that the groups name, ascending
  std::vector<float> dz;     // [entries, all r]: d/dz of the loss, unnormalised
  ReplyLogProbs log_probs;   // of the sampled tokens, in this pass's form
};

// The loss is Head::gradient's, summed over all replies. `adapter`: kActivation or kClosedForm; z
// is what its table says.
GradientResult z_gradient(const Weights& weights, const Adapter& adapter,
                          const std::vector<ReplyGroup>& groups, const GradientOptions& options);

// Log-probabilities of the replies' tokens; no gradient.
ReplyLogProbs reply_log_probs(const Weights& weights, const Adapter& adapter,
                              const std::vector<ReplyGroup>& groups, double temperature);

}  // namespace svfleet
