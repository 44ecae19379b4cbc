// The replies of chunks, by their prompts: sampled, restored from the journal, or given.
#pragma once

#include <algorithm>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "coordinator/training/chunk.h"
#include "worker/model/engine.h"
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

// Writes the replies of chunks in one batch, which those of further chunks join at any time. What
// `replies` has is not sampled again, and what ends is kept there. Of one thread.
class Sampler {
 public:
  // For chunks like this one: of its table, method (not kAnswers) and temperature. What it is
  // given, and what the policies hold, must stay.
  Sampler(const Base& base, const ChunkWork& like, const Replies& replies);
  ~Sampler();

  // A piece of work: chunks that are asked for together.
  struct Piece {
    int number = 0;
    std::vector<ChunkWork> works = {};
    std::vector<Sampled> sampled = {};  // of each
    int64_t left = 0;                   // replies that have not ended
    double seconds = 0;                 // its share of the time that all took
  };
  void begin(int number, std::vector<ChunkWork> works);
  int64_t rows() const;                 // replies that have not ended, of all pieces
  int64_t longest_prompt() const;       // of them, in tokens
  std::vector<int> unfinished() const;  // pieces that have such, in the order of their beginning
  // One token more for each reply.
  void step();
  bool has_finished() const;  // a piece whose replies are all there
  // The first of them. Where nothing more is being written, the keys and
  // values are given up with it: a gradient that follows has their memory.
  std::optional<Piece> take_finished();

 private:
  struct Place {
    std::list<Piece>::iterator piece;
    size_t work, group;
  };

  const Base& base_;
  const ChunkWork like_;
  const Replies& replies_;
  const Adapter adapter_;
  std::unique_ptr<Engine> engine_;  // while something is written
  std::list<Piece> pieces_;
  std::map<int64_t, Place> asked_for_;  // by request of the engine
};

// Of all of them, written in one batch; in their order. Throws StopWork, between tokens, when a
// stop is asked for.
std::vector<Sampled> sample(const Base& base, const std::vector<ChunkWork>& works,
                            const Replies& replies);

}  // namespace svfleet
