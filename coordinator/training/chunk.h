// One chunk of a training step, from prompts to its share of the z gradient. A pure function of
// the policy, the prompts and the keyed random numbers: whoever computes it gets the same bits.
#pragma once

#include <string>
#include <vector>

#include "checkpoints/finished_chunk.h"
#include "coordinator/base/base.h"
#include "coordinator/training/policy.h"
#include "coordinator/training/replies.h"
#include "rl/advantage.h"
#include "worker/model/gradient.h"

namespace svfleet {

struct Sampled;

// What a chunk's replies are, and what they are trained by.
enum class Method {
  kPolicyGradient,  // the policy's own, by their advantages
  kAnswers,         // the items' answers, by their likelihood
  kRightReplies,    // those of the base model that are right, likewise
  kEvolution,       // of members of a population, by their mean rewards: no gradient
};

// The settings of a step that a chunk needs, resolved once.
struct ChunkRules {
  std::string run_id;
  int64_t step = 0;
  uint64_t seed = 0;
  int expert = 0;  // whose chunk it is, of several that are trained together: its number
  Method method = Method::kPolicyGradient;
  size_t tasks = 1;  // in the run
  double temperature = 1;
  int samples = 4;
  Baseline baseline = Baseline::kLeaveOneOut;
  double reward_right = 1, reward_wrong = -1;
  double token_length = 0;  // 0 = sum over tokens
  double kl_beta = 0;
  bool kl_in_reward = true;
  bool measure_kl = false;  // for the log, also where kl_beta is 0
  KlLoss kl_loss = KlLoss::kNone;
  int64_t gradient_tokens = 0;  // most of a group that are differentiated at once; 0: all
  Again again = Again::kAuto;   // layers for the gradient
  int sampled_texts = 1;        // replies written to rollouts.jsonl from this chunk

  double length() const { return token_length > 0 ? token_length : 1; }  // what a sum is divided by
};

struct ChunkPrompt {
  int task = 0;
  const TaskSpec* spec = nullptr;
  const Item* item = nullptr;
  int64_t position = 0;     // in the keyed order of prompts
  int entry = kOnlyExpert;  // of the policy's table
  // Evolution strategies: whose reply is wanted; members of a chunk are entries beside each other.
  int member = 0;
};

// One gradient for each group that is trained, that of L (rl/objective.h) summed over its replies,
// not divided by anything. A group's bits depend neither on the others of its chunk nor on how many
// these are. The
// tally (training/chunk_tally.h) says what it was; some replies come along to read.
// A chunk of a population has no gradient: the fitness of its members is in the tally.
// Replies that `replies` has are not sampled again, the others are kept there as they end. Throws
// StopWork, between tokens, when a stop is asked for.
FinishedChunk compute_chunk(const Base& base, const Policy& policy, const ChunkRules& rules,
                            int chunk, const std::vector<ChunkPrompt>& prompts,
                            const Replies& replies = {});

// Chunks of several experts, whose policies are entries of one table: their replies are written in
// one batch. Each gets the bits that it has alone. They share method, temperature and step.
struct ChunkWork {
  const Policy* policy = nullptr;  // in activation form, where there are several
  ChunkRules rules;
  int chunk = 0;
  std::vector<ChunkPrompt> prompts;
};
std::vector<FinishedChunk> compute_together(const Base& base, const std::vector<ChunkWork>& works,
                                            const Replies& replies = {});
// What comes after their replies (of each its own), which took `generate_s` together: what the base
// says of them, rewards, gradients.
std::vector<FinishedChunk> finish_together(const Base& base, const std::vector<ChunkWork>& works,
                                           const std::vector<Sampled>& sampled, double generate_s);

// A rollout made with another policy would be trained on without a sign: Error(kExitInternal)
// unless the chunk belongs to this step and was made with the z of this hash.
void check_receipt(const FinishedChunk& chunk, int64_t step, const std::string& z_hash);

}  // namespace svfleet
