// The next token of each row of a batch, drawn where its distribution lies: on a GPU three numbers
// a row come back to the host, not the vocabulary.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "worker/model/sampling.h"

namespace svfleet {

// log pi and pi of softmax(logits / T), float32 [rows, vocabulary], and its entropy [rows] in nats;
// all on the device of the logits.
struct Distribution {
  at::Tensor log_probs, probs, entropy;
};

// `logits` [rows, vocabulary] of any float type. A temperature of 0 leaves them as they are.
Distribution distribution(at::Tensor logits, double temperature);

struct NextTokens {
  std::vector<int> tokens;
  std::vector<float> log_probs;   // of each token
  std::vector<double> entropies;  // of the row that it was drawn from
};

// One token for each entry of `rows`, which names the row of the distribution that it is drawn
// from, with the uniform number [0, 1) beside it. On the CPU as choose_token and most_likely of
// worker/model/sampling.h; on a GPU by draw_in_blocks where nothing is cut off the distribution.
NextTokens next_tokens(const Distribution& from, const std::vector<int64_t>& rows,
                       const std::vector<double>& uniforms, const SamplingOptions& options);

// `probs` [n, vocabulary], `uniforms` float64 [n]; returns int64 [n], on their device. The first
// token at which the running sum passes uniform * total, as choose_token; sums are float64 in
// blocks of 512 tokens, then over blocks, in an order that depends on the vocabulary alone.
at::Tensor draw_in_blocks(const at::Tensor& probs, const at::Tensor& uniforms);

}  // namespace svfleet
