// The model's last product, onto the vocabulary: scores of tokens, the draw of the next one, and
// their gradient. Nobody else multiplies by the [vocabulary, hidden] matrix.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "worker/model/matrix.h"
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

// Logits are float32 (float64 for a float64 model), never rounded to the model's type; their sums
// run over the vocabulary in fixed blocks, so that a row's bits are its own. One function gives
// the log-probability of a token that is drawn and of one that is trained.
class Head {
 public:
  // Rows of logits that training holds at a time: so many times the vocabulary, wide.
  static int64_t rows_at_once(at::Device device) { return device.is_cuda() ? 1024 : 32; }

  // What logits are made of the matrix's product: divided, then capped where `cap` is above 0.
  struct Shape {
    double divisor = 1, cap = 0;
  };

  Head() = default;
  // [vocabulary, hidden]
  explicit Head(Matrix matrix, Shape shape = {1, 0}) : matrix_(std::move(matrix)), shape_(shape) {}

  const Matrix& matrix() const { return matrix_; }

  // All of them [rows, vocabulary], to look at: nothing that trains or replies holds so many.
  at::Tensor logits(const at::Tensor& hidden) const;

  // log pi of each row's label [rows], with pi = softmax(logits / T); in blocks of rows.
  at::Tensor log_probs(const at::Tensor& hidden, const std::vector<int64_t>& labels,
                       double temperature) const;

  // One token for each entry of `rows`, which names the row of `hidden` that it is drawn from, with
  // the uniform number [0, 1) beside it, from softmax(logits / T).
  NextTokens draw(const at::Tensor& hidden, const std::vector<int64_t>& rows,
                  const std::vector<double>& uniforms, const SamplingOptions& options) const;

  // log_probs, and dLoss/dhidden (wide) of
  // Loss = - sum weight log pi(label) + kl_weight * KL term, over the rows:
  //   k2:   (log pi - log pi_base)^2 / 2 of the label (its gradient is KL's, on-policy)
  //   full: sum over the vocabulary of pi (log pi - log pi_base)
  // in blocks of rows; those without weights are passed over, their gradient is 0. `base`: the base
  // model's hidden states, read where there is a KL.
  struct Gradient {
    at::Tensor log_probs, d_hidden;
  };
  Gradient gradient(const at::Tensor& hidden, const at::Tensor& base, const TrainedTokens& tokens,
                    KlLoss kl, double temperature) const;

 private:
  // `slope`: d logits / d product, undefined where it is 1.
  at::Tensor logits(const at::Tensor& hidden, at::Tensor* slope) const;

  Matrix matrix_;
  Shape shape_;
};

}  // namespace svfleet
