// Replies to a fixed set of prompts: the engine (worker/model/engine.h), run until all have ended.
#pragma once

#include <vector>

#include "worker/model/engine.h"

namespace svfleet {

// Rollouts by prompt, then sample; `on_text`: of the first prompt's first sample. A reply depends
// on its own prompt, its entry, and the keyed random numbers alone. Error(kExitUser) when a prompt
// and its reply do not fit into the model's positions.
std::vector<Rollout> generate(const Weights& weights, const Tokenizer& tokenizer,
                              const Adapter& adapter, const std::vector<Prompt>& prompts,
                              int samples, const SamplingOptions& options,
                              const OnText& on_text = nullptr);

}  // namespace svfleet
