#include "worker/model/head.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "comm/error.h"
#include "comm/stage.h"
#include "worker/model/index_tensor.h"

namespace svfleet {
namespace {

// Rows of logits held at a time: [kBlock, vocabulary] in float32.
constexpr int64_t kBlock = 128;

at::ScalarType wide_type(const at::Tensor& t) {
  return t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace

at::Tensor Head::logits(const at::Tensor& hidden) const {
  return at::linear(hidden, matrix_);
}

at::Tensor Head::log_softmax(const at::Tensor& hidden, double temperature) const {
  at::Tensor wide = logits(hidden);
  wide = wide.to(wide_type(wide));
  return at::log_softmax(temperature == 1 ? wide : wide / temperature, -1);
}

at::Tensor Head::log_probs(const at::Tensor& hidden, const std::vector<int64_t>& labels,
                           double temperature) const {
  const at::Tensor own = index_tensor(labels, hidden.device()).unsqueeze(1);
  std::vector<at::Tensor> parts;
  for (int64_t start = 0; start < hidden.size(0); start += kBlock) {
    enter(Stage::kHead);
    const int64_t size = std::min(kBlock, hidden.size(0) - start);
    parts.push_back(log_softmax(hidden.narrow(0, start, size), temperature)
                        .gather(1, own.narrow(0, start, size))
                        .squeeze(1));
  }
  return at::cat(parts);
}

NextTokens Head::draw(const at::Tensor& hidden, const std::vector<int64_t>& rows,
                      const std::vector<double>& uniforms, const SamplingOptions& options) const {
  return next_tokens(distribution(logits(hidden), options.temperature), rows, uniforms, options);
}

Head::Gradient Head::gradient(const at::Tensor& hidden, const at::Tensor& base,
                              const TrainedTokens& tokens, KlLoss kl, double temperature) const {
  // The vocabulary is the largest thing here: a block of rows at a time, no graph.
  c10::NoGradGuard no_grad;
  const int64_t count = hidden.size(0);
  SVFLEET_CHECK(count == int64_t(tokens.labels.size()), count, " rows for ", tokens.labels.size());
  Gradient out{at::empty({count}, hidden.options().dtype(wide_type(hidden))),
               at::empty_like(hidden)};
  const at::Tensor labels = index_tensor(tokens.labels, hidden.device()).unsqueeze(1);
  const at::Tensor weights = at::tensor(tokens.weights, out.log_probs.options()).unsqueeze(1);
  const at::Tensor kl_weights = at::tensor(tokens.kl_weights, out.log_probs.options()).unsqueeze(1);
  for (int64_t start = 0; start < count; start += kBlock) {
    enter(Stage::kHead);
    const int64_t size = std::min(kBlock, count - start);
    auto block = [&](const at::Tensor& t) { return t.narrow(0, start, size); };
    at::Tensor log_pi = log_softmax(block(hidden), temperature);
    at::Tensor pi = log_pi.exp();
    at::Tensor own = log_pi.gather(1, block(labels));
    block(out.log_probs).copy_(own.squeeze(1));
    at::Tensor weight = block(weights);
    if (kl == KlLoss::kK2)  // d/dtheta of KL's k2 estimate is (log ratio) d log pi
      weight = weight - block(kl_weights) *
                            (own - log_softmax(block(base), temperature).gather(1, block(labels)));
    at::Tensor d_logits = pi * weight;
    d_logits.scatter_add_(1, block(labels), -weight);
    if (kl == KlLoss::kFull) {
      at::Tensor ratio = log_pi - log_softmax(block(base), temperature);
      at::Tensor mean = (pi * ratio).sum(1, /*keepdim=*/true);
      d_logits += block(kl_weights) * pi * (ratio - mean);
    }
    if (temperature != 1) d_logits /= temperature;
    block(out.d_hidden).copy_(d_logits.to(hidden.scalar_type()).mm(matrix_));
  }
  return out;
}

}  // namespace svfleet
