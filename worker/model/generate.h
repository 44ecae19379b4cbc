// Replies to a batch of prompts: KV-cached, with a common prefix and each prompt computed once for
// all of its samples, and rows that finish leaving the batch.
//
// A reply depends on its batch (the prompts and their entries, in order, and the sample count) and
// on the keyed random numbers, on nothing else.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "worker/model/adapter.h"
#include "worker/model/sampling.h"
#include "worker/model/weights.h"
#include "worker/tokenizer/tokenizer.h"

namespace svfleet {

struct Prompt {
  std::vector<int> tokens;
  int64_t key = 0;  // position in the data: part of the random numbers' key
  int max_new_tokens = 64;
  std::vector<std::string> stop;      // stop strings
  std::vector<int> stop_tokens = {};  // besides the model's own
  int entry = kOnlyExpert;            // of the adapter's table
};

struct Rollout {
  int prompt = 0, sample = 0;
  std::vector<int> tokens;       // as sampled, the stop token included
  std::vector<float> log_probs;  // of each under softmax(logits / T), untruncated
  double entropy = 0;            // of those distributions, summed over tokens, in nats
  bool finite = true;            // false: the model's logits held a NaN or infinity
  bool ended = false;            // by a stop token or stop string, not by the length limit
  std::string text;              // without stop token; cut before a stop string
};

// Called for each token of the first prompt's first sample, for streaming.
using OnText = std::function<void(const std::string&)>;

// Rollouts by prompt, then sample. Error(kExitUser) when a prompt and its reply do not fit into the
// model's positions.
std::vector<Rollout> generate(const Weights& weights, const Tokenizer& tokenizer,
                              const Adapter& adapter, const std::vector<Prompt>& prompts,
                              int samples, const SamplingOptions& options,
                              const OnText& on_text = nullptr);

}  // namespace svfleet
