#include "worker/model/head.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "comm/error.h"
#include "comm/stage.h"
#include "worker/kernels/vocabulary.h"
#ifdef SVFLEET_HAVE_CUDA
#include "worker/model/gpu_kernels.h"
#endif
#include "worker/model/operations.h"
#include "worker/model/typed.h"
#include "worker/threads.h"

namespace svfleet {
namespace {

bool truncated(const SamplingOptions& options) {
  return options.top_k > 0 || options.top_p < 1 || options.min_p > 0;
}

// What every row of a block of logits says, on the CPU.
template <class W>
std::vector<RowSums<W>> sums_of(const at::Tensor& logits, double temperature, bool entropy) {
  std::vector<RowSums<W>> sums(size_t(logits.size(0)));
  vocabulary_sums<W>(data_of<W>(logits), logits.size(0), logits.size(1), temperature, entropy,
                     sums.data(), compute_threads());
  return sums;
}

template <class W>
void draw_rows(const at::Tensor& logits, const std::vector<int64_t>& rows,
               const std::vector<double>& uniforms, const SamplingOptions& options,
               NextTokens* next) {
  const int64_t vocabulary = logits.size(1);
  const double temperature = options.temperature;
  const std::vector<RowSums<W>> sums = sums_of<W>(logits, temperature, /*entropy=*/true);
  std::vector<float> probabilities;
  for (size_t i = 0; i < rows.size(); ++i) {
    const W* row = data_of<W>(logits) + rows[i] * vocabulary;
    const RowSums<W>& own = sums[size_t(rows[i])];
    int token;
    if (temperature > 0 && truncated(options)) {
      probabilities.resize(size_t(vocabulary));
      svfleet::probabilities<W>(row, vocabulary, temperature, own, probabilities.data());
      token = choose_token(probabilities.data(), vocabulary, options, uniforms[i]);
    } else {
      token = draw_token<W>(row, vocabulary, temperature, uniforms[i], own);
    }
    next->tokens.push_back(token);
    next->log_probs.push_back(float(log_prob<W>(row, token, temperature, own)));
    next->entropies.push_back(own.entropy);
  }
}

at::Tensor log_softmax(const at::Tensor& logits, double temperature) {  // on a GPU
  return at::log_softmax(temperature == 1 ? logits : logits / temperature, -1);
}

at::Tensor on_gpu(const at::Tensor& logits, const at::Tensor& base, const TrainedTokens& tokens,
                  int64_t start, KlLoss kl, double temperature, const at::Tensor& log_probs) {
  const int64_t size = logits.size(0);
  const auto column = [&](const auto& all) {
    std::vector<double> own(all.begin() + start, all.begin() + start + size);
    return at::tensor(own, at::kDouble).to(logits.device(), logits.scalar_type()).unsqueeze(1);
  };
  const at::Tensor labels =
      index_tensor({tokens.labels.begin() + start, tokens.labels.begin() + start + size},
                   logits.device())
          .unsqueeze(1);
  const at::Tensor log_pi = log_softmax(logits, temperature), pi = log_pi.exp();
  const at::Tensor own = log_pi.gather(1, labels);
  log_probs.copy_(own.squeeze(1));
  at::Tensor weight = column(tokens.weights);
  if (kl == KlLoss::kK2)
    weight = weight -
             column(tokens.kl_weights) * (own - log_softmax(base, temperature).gather(1, labels));
  at::Tensor d = pi * weight;
  d.scatter_add_(1, labels, -weight);
  if (kl == KlLoss::kFull) {
    const at::Tensor ratio = log_pi - log_softmax(base, temperature);
    d += column(tokens.kl_weights) * pi * (ratio - (pi * ratio).sum(1, /*keepdim=*/true));
  }
  return temperature == 1 ? d : d / temperature;
}

// d_logits [rows, vocabulary] of the type of hidden states; log_probs of the block are written.
at::Tensor on_cpu(const at::Tensor& logits, const at::Tensor& base, const TrainedTokens& tokens,
                  int64_t start, KlLoss kl, double temperature, const at::Tensor& log_probs,
                  at::ScalarType type) {
  const int64_t rows = logits.size(0), vocabulary = logits.size(1);
  at::Tensor d_logits = at::empty(logits.sizes(), type);
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    using W = Wide<T>;
    const auto sums = sums_of<W>(logits, temperature, false);
    const auto base_sums =
        base.defined() ? sums_of<W>(base, temperature, false) : std::vector<RowSums<W>>();
    std::vector<int> labels(tokens.labels.begin() + start, tokens.labels.begin() + start + rows);
    std::vector<double> weights(tokens.weights.begin() + start,
                                tokens.weights.begin() + start + rows);
    const double* kl_weights = kl == KlLoss::kNone ? nullptr : tokens.kl_weights.data() + start;
    for (int64_t i = 0; i < rows; ++i) {
      const double own = log_prob<W>(data_of<W>(logits) + i * vocabulary, labels[size_t(i)],
                                     temperature, sums[size_t(i)]);
      data_of<W>(log_probs)[i] = W(own);
      if (kl == KlLoss::kK2)  // its gradient is (log ratio) d log pi
        weights[size_t(i)] -=
            kl_weights[i] * (own - log_prob<W>(data_of<W>(base) + i * vocabulary, labels[size_t(i)],
                                               temperature, base_sums[size_t(i)]));
    }
    const bool full = kl == KlLoss::kFull;
    loss_gradient<T>(data_of<W>(logits), full ? data_of<W>(base) : nullptr, rows, vocabulary,
                     temperature, sums.data(), full ? base_sums.data() : nullptr, labels.data(),
                     weights.data(), full ? kl_weights : nullptr, data_of<T>(d_logits),
                     compute_threads());
  });
  return d_logits;
}

}  // namespace

at::Tensor Head::logits(const at::Tensor& hidden) const {
  return logits(hidden, nullptr);
}

at::Tensor Head::logits(const at::Tensor& hidden, at::Tensor* slope) const {
  at::Tensor logits = matrix_.times_wide(hidden);
  if (shape_.divisor != 1) logits.div_(shape_.divisor);
  if (shape_.cap > 0) soft_cap(logits, shape_.cap, slope);
  if (slope && shape_.divisor != 1)
    *slope =
        slope->defined() ? slope->div_(shape_.divisor) : at::full_like(logits, 1 / shape_.divisor);
  return logits;
}

at::Tensor Head::log_probs(const at::Tensor& hidden, const std::vector<int64_t>& labels,
                           double temperature) const {
  at::Tensor out = at::empty({hidden.size(0)}, hidden.options().dtype(wide_of(hidden)));
  const int64_t at_once = rows_at_once(hidden.device());
  for (int64_t start = 0; start < hidden.size(0); start += at_once) {
    enter(Stage::kHead);
    const int64_t size = std::min(at_once, hidden.size(0) - start);
    const at::Tensor block = logits(hidden.narrow(0, start, size));
#ifdef SVFLEET_HAVE_CUDA
    if (gpu::has_kernels(block)) {
      out.narrow(0, start, size)
          .copy_(gpu::kernels::log_probs(
              block, {labels.begin() + start, labels.begin() + start + size}, temperature));
      continue;
    }
#endif
    if (hidden.is_cuda()) {
      const at::Tensor own =
          index_tensor({labels.begin() + start, labels.begin() + start + size}, hidden.device());
      out.narrow(0, start, size)
          .copy_(log_softmax(block, temperature).gather(1, own.unsqueeze(1)).squeeze(1));
      continue;
    }
    with_type(block.scalar_type(), [&](auto zero) {
      using W = Wide<decltype(zero)>;
      const auto sums = sums_of<W>(block, temperature, false);
      for (int64_t i = 0; i < size; ++i)
        data_of<W>(out)[start + i] =
            W(log_prob<W>(data_of<W>(block) + i * block.size(1), labels[size_t(start + i)],
                          temperature, sums[size_t(i)]));
    });
  }
  return out;
}

NextTokens Head::draw(const at::Tensor& hidden, const std::vector<int64_t>& rows,
                      const std::vector<double>& uniforms, const SamplingOptions& options) const {
  SVFLEET_CHECK(rows.size() == uniforms.size(), rows.size(), " vs ", uniforms.size());
  const at::Tensor all = logits(hidden);
#ifdef SVFLEET_HAVE_CUDA
  if (gpu::has_kernels(all) && !(options.temperature > 0 && truncated(options)))
    return gpu::kernels::draw(all, rows, uniforms, options.temperature);
#endif
  if (hidden.is_cuda())
    return next_tokens(distribution(all, options.temperature), rows, uniforms, options);
  NextTokens next;
  with_type(all.scalar_type(), [&](auto zero) {
    draw_rows<Wide<decltype(zero)>>(all, rows, uniforms, options, &next);
  });
  return next;
}

Head::Gradient Head::gradient(const at::Tensor& hidden, const at::Tensor& base,
                              const TrainedTokens& tokens, KlLoss kl, double temperature) const {
  // The vocabulary is the largest thing here: a block of rows at a time.
  const int64_t count = hidden.size(0);
  SVFLEET_CHECK(count == int64_t(tokens.labels.size()), count, " rows for ", tokens.labels.size());
  const at::TensorOptions wide = hidden.options().dtype(wide_of(hidden));
  Gradient out{at::empty({count}, wide), at::empty(hidden.sizes(), wide)};
  const int64_t at_once = rows_at_once(hidden.device());
  for (int64_t start = 0; start < count; start += at_once) {
    enter(Stage::kHead);
    const int64_t size = std::min(at_once, count - start);
    const auto block = [&](const at::Tensor& t) { return t.narrow(0, start, size); };
    at::Tensor slope;
    const at::Tensor own = logits(block(hidden), &slope);
    const at::Tensor of_base = kl == KlLoss::kNone ? at::Tensor() : logits(block(base));
    const at::Tensor d_logits =
#ifdef SVFLEET_HAVE_CUDA
        gpu::has_kernels(own)
            ? gpu::kernels::loss_gradient(own, of_base, tokens, start, kl, temperature,
                                          hidden.scalar_type(), block(out.log_probs))
        :
#endif
        hidden.is_cuda()
            ? rounded(on_gpu(own, of_base, tokens, start, kl, temperature, block(out.log_probs)),
                      hidden.scalar_type())
            : on_cpu(own, of_base, tokens, start, kl, temperature, block(out.log_probs),
                     hidden.scalar_type());
    const at::Tensor d_product =
        slope.defined() ? rounded(d_logits * slope, hidden.scalar_type()) : d_logits;
    block(out.d_hidden).copy_(matrix_.back_wide(d_product));
  }
  return out;
}

}  // namespace svfleet
