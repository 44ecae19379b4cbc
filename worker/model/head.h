// The model's last product, onto the vocabulary: scores of tokens, the draw of the next one, and
// their gradient. Nobody else multiplies by the [vocabulary, hidden] matrix.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "worker/model/next_token.h"
#include "worker/model/sampling.h"

namespace svfleet {

enum class KlLoss { kNone, kK2, kFull };

// The tokens that are trained, one for each row of hidden states.
struct TrainedTokens {
  std::vector<int64_t> labels;
  std::vector<double> weights;     // of its log-probability
  std::vector<double> kl_weights;  // of its KL term
};

class Head {
 public:
  explicit Head(at::Tensor matrix) : matrix_(std::move(matrix)) {}  // [vocabulary, hidden]

  // All of them [rows, vocabulary], to look at: nothing that trains or replies holds so many.
  at::Tensor logits(const at::Tensor& hidden) const;

  // log pi of each row's label [rows], float32 (float64 for a float64 model), with pi =
  // softmax(logits / T); in blocks of rows.
  at::Tensor log_probs(const at::Tensor& hidden, const std::vector<int64_t>& labels,
                       double temperature) const;

  // One token for each entry of `rows`, as next_tokens, from softmax(logits / T) of `hidden`.
  NextTokens draw(const at::Tensor& hidden, const std::vector<int64_t>& rows,
                  const std::vector<double>& uniforms, const SamplingOptions& options) const;

  // log_probs, and dLoss/dhidden of
  // Loss = - sum weight log pi(label) + kl_weight * KL term, over the rows:
  //   k2:   (log pi - log pi_base)^2 / 2 of the label (its gradient is KL's, on-policy)
  //   full: sum over the vocabulary of pi (log pi - log pi_base)
  // by hand, in blocks of rows. `base`: the base model's hidden states, read where there is a KL.
  struct Gradient {
    at::Tensor log_probs, d_hidden;
  };
  Gradient gradient(const at::Tensor& hidden, const at::Tensor& base, const TrainedTokens& tokens,
                    KlLoss kl, double temperature) const;

 private:
  at::Tensor log_softmax(const at::Tensor& hidden, double temperature) const;

  at::Tensor matrix_;
};

}  // namespace svfleet
