// The z gradient of groups of replies, each group's its own, and log-probabilities of given
// replies. Prompts are computed once for all of their replies.
#pragma once

#include <cstdint>
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

// Whether layers are computed once more for the gradient instead of being kept; alters no bits.
enum class Again { kAuto, kNever, kAlways };  // auto: where keeping them takes more than a gigabyte

struct GradientOptions {
  double temperature = 1;
  KlLoss kl = KlLoss::kNone;
  // A group of more tokens is cut: prompt and some of the replies at a time, in their order, at
  // least one; dz is summed over the parts. It alters bits. 0: never.
  int64_t most_tokens = 0;
  Again again = Again::kAuto;
};

struct GradientResult {
  std::vector<std::vector<float>> dz;  // by group [all r]: d/dz of the loss, unnormalised
  ReplyLogProbs log_probs;             // of the sampled tokens
  // Most bytes of activations held at a time: predicted before they were made, and counted.
  int64_t predicted_bytes = 0, peak_bytes = 0;
};

// The loss is Head::gradient's, summed over each group's replies. A group's bits are its own.
GradientResult z_gradient(const Weights& weights, const Adapter& adapter,
                          const std::vector<ReplyGroup>& groups, const GradientOptions& options);

// Packs what sampling and z_gradient in a form will multiply by (with `base_too`: and the base's
// forward pass), so that Weights::frozen() and Basis::frozen() have all of it, and gives plain
// copies up.
void pack_for_training(const Weights& weights, const Basis& basis, Apply form, bool base_too,
                       const SideBySide& side_by_side);

// The same for sampling alone in activation form: nothing that only a gradient multiplies by.
void pack_for_sampling(const Weights& weights, const Basis& basis, const SideBySide& side_by_side);

// Log-probabilities of the replies' tokens; no gradient. To the bit what was said of them when
// they were drawn, by the same adapter.
ReplyLogProbs reply_log_probs(const Weights& weights, const Adapter& adapter,
                              const std::vector<ReplyGroup>& groups, double temperature);

}  // namespace svfleet
