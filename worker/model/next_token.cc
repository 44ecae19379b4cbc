#include "worker/model/next_token.h"

#include <ATen/ATen.h>

#include "comm/error.h"
#include "worker/model/gpu_pass.h"

namespace svfleet {
namespace {

constexpr int64_t kBlock = 512;

template <class T>
at::Tensor on(at::Device device, const std::vector<T>& values, at::ScalarType type) {
  Upload upload;
  upload.add(values);
  return upload.to(device).view(type).narrow(0, 0, int64_t(values.size()));
}

// The last index at which `values` [n, m] are above zero; 0 where none is.
at::Tensor last_above_zero(const at::Tensor& values) {
  return ((values > 0) * at::arange(values.size(1), values.options().dtype(at::kLong))).amax(-1);
}

NextTokens on_the_host(const Distribution& from, const std::vector<int64_t>& rows,
                       const std::vector<double>& uniforms, const SamplingOptions& options) {
  const at::Tensor log_probs = from.log_probs.cpu(), probs = from.probs.cpu(),
                   entropy = from.entropy.cpu();
  const int64_t vocabulary = probs.size(1);
  NextTokens next;
  for (size_t i = 0; i < rows.size(); ++i) {
    const float* own = log_probs.data_ptr<float>() + rows[i] * vocabulary;
    const int token = options.temperature <= 0
                          ? most_likely(own, vocabulary)
                          : choose_token(probs.data_ptr<float>() + rows[i] * vocabulary, vocabulary,
                                         options, uniforms[i]);
    next.tokens.push_back(token);
    next.log_probs.push_back(own[token]);
    next.entropies.push_back(double(entropy.data_ptr<float>()[rows[i]]));
  }
  return next;
}

NextTokens on_the_device(const Distribution& from, const std::vector<int64_t>& rows,
                         const std::vector<double>& uniforms, bool greedy) {
  const at::Device device = from.probs.device();
  const at::Tensor index = on(device, rows, at::kLong);
  const at::Tensor log_probs = from.log_probs.index_select(0, index);
  const at::Tensor tokens =
      greedy ? log_probs.argmax(-1)
             : draw_in_blocks(from.probs.index_select(0, index), on(device, uniforms, at::kDouble));
  // float64 holds all three without loss, so that one copy brings them.
  const at::Tensor told =
      at::stack({tokens.to(at::kDouble),
                 log_probs.gather(1, tokens.unsqueeze(1)).squeeze(1).to(at::kDouble),
                 from.entropy.index_select(0, index).to(at::kDouble)})
          .cpu();
  const double* row = told.data_ptr<double>();
  const int64_t n = int64_t(rows.size());
  NextTokens next;
  for (int64_t i = 0; i < n; ++i) {
    next.tokens.push_back(int(row[i]));
    next.log_probs.push_back(float(row[n + i]));
    next.entropies.push_back(row[2 * n + i]);
  }
  return next;
}

}  // namespace

Distribution distribution(at::Tensor logits, double temperature) {
  logits = logits.to(logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  // Near 0 the quotient would overflow: there only differences from the largest logit are divided.
  constexpr double kLeast = 1e-30;
  if (temperature > 0 && temperature < kLeast)
    logits = (logits - logits.amax(-1, /*keepdim=*/true)) / kLeast;
  else if (temperature > 0 && temperature != 1)
    logits = logits / temperature;
  Distribution out;
  out.log_probs = at::log_softmax(logits, -1).to(at::kFloat);
  out.probs = out.log_probs.exp();
  // 0 * -inf would be NaN.
  out.entropy = -(out.probs * out.log_probs.clamp_min(-1e4)).sum(-1);
  return out;
}

NextTokens next_tokens(const Distribution& from, const std::vector<int64_t>& rows,
                       const std::vector<double>& uniforms, const SamplingOptions& options) {
  SVFLEET_CHECK(rows.size() == uniforms.size(), rows.size(), " vs ", uniforms.size());
  const bool greedy = options.temperature <= 0;
  const bool whole = options.top_k <= 0 && options.top_p >= 1 && options.min_p <= 0;
  if (from.probs.is_cpu() || !(greedy || whole)) return on_the_host(from, rows, uniforms, options);
  return on_the_device(from, rows, uniforms, greedy);
}

at::Tensor draw_in_blocks(const at::Tensor& probs, const at::Tensor& uniforms) {
  const int64_t n = probs.size(0);
  // CUDA sums along a single row in no fixed order, along the rows of several in a fixed one.
  if (n == 1) return draw_in_blocks(probs.expand({2, -1}), uniforms.expand({2})).narrow(0, 0, 1);
  const int64_t padding = (kBlock - probs.size(1) % kBlock) % kBlock;
  const at::Tensor blocks = at::constant_pad_nd(probs, {0, padding}).view({n, -1, kBlock});
  const at::Tensor sums = blocks.sum(-1, /*keepdim=*/false, at::kDouble);  // [n, blocks]
  const at::Tensor through = sums.cumsum(-1);
  const at::Tensor goal = (uniforms * through.select(1, -1)).unsqueeze(1);  // [n, 1]
  // Rounding may put the goal at the very end: never on a token or a block without probability.
  const at::Tensor block =
      at::minimum((through <= goal).sum(-1), last_above_zero(sums)).unsqueeze(1);
  const at::Tensor own =
      blocks.gather(1, block.unsqueeze(-1).expand({n, 1, kBlock})).squeeze(1).to(at::kDouble);
  const at::Tensor before = through.gather(1, block) - sums.gather(1, block);
  const at::Tensor place =
      at::minimum((own.cumsum(-1) + before <= goal).sum(-1), last_above_zero(own));
  return block.squeeze(1) * kBlock + place;
}

}  // namespace svfleet
