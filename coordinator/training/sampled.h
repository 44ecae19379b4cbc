// The replies of chunks, by their prompts: sampled, restored from the journal, or given.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "coordinator/training/chunk.h"
#include "worker/model/gradient.h"

namespace svfleet {

// Whether its logits were numbers.
bool is_finite(const Rollout& rollout);

// The chunk's prompts with `samples` replies each, in order.
struct Sampled {
  std::vector<Prompt> prompts;
  std::vector<Rollout> rollouts;
  int samples = 0;

  Rollout& at(size_t group, int sample) {
    return rollouts[group * size_t(samples) + size_t(sample)];
  }
  const Rollout& at(size_t group, int sample) const {
    return rollouts[group * size_t(samples) + size_t(sample)];
  }
  ReplyGroup group(size_t g) const {
    ReplyGroup group;
    group.prompt = &prompts[g].tokens;
    group.entry = prompts[g].entry;
    for (int s = 0; s < samples; ++s) group.replies.push_back({&at(g, s).tokens});
    return group;
  }
  int64_t tokens() const {
    int64_t all = 0;
    for (const Rollout& rollout : rollouts) all += int64_t(rollout.tokens.size());
    return all;
  }
  // Replies drawn from NaN are without meaning, and mostly all the same: a group skipped for want
  // of a signal would hide them.
  bool finite() const { return std::all_of(rollouts.begin(), rollouts.end(), is_finite); }
};

// Of all of them, written in one batch; in their order. What `replies` has is not sampled again,
// and what ends is kept there. Throws StopWork, between tokens, when a stop is asked for.
std::vector<Sampled> sample(const Base& base, const std::vector<ChunkWork>& works,
                            const Replies& replies);

}  // namespace svfleet
