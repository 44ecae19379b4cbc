// How many replies were right, and how good they were: counted alike in training and in evaluation.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "rl/task.h"

namespace svfleet {

// A reply is right when all rewards of its task give it a full score.
inline bool is_right(double score) {
  return score > 1 - 1e-9;
}

inline double per(double sum, int64_t count) {
  return count ? sum / double(count) : 0;
}

// Whether a reply's score stands: a cut one is wrong, unless the task says that it counts as it is.
inline bool stands(bool ended, TruncatedRule rule) {
  return ended || rule == TruncatedRule::kScore;
}

struct Tally {
  std::string task;     // empty: all of them
  int64_t replies = 0;  // of which `counted` count: training leaves masked ones out
  int64_t counted = 0, right = 0, ended = 0, tokens = 0;
  double score_sum = 0;  // over those that count, a cut reply by its task's rule

  // A reply, counted or not.
  void add(double score, bool by_itself, int64_t length, TruncatedRule rule) {
    ++replies;
    ended += by_itself;
    tokens += length;
    right += stands(by_itself, rule) && is_right(score);
  }
  Tally& operator+=(const Tally& other) {
    replies += other.replies, counted += other.counted, right += other.right;
    ended += other.ended, tokens += other.tokens, score_sum += other.score_sum;
    return *this;
  }

  double accuracy() const { return per(double(right), counted); }
  double score() const { return per(score_sum, counted); }
  double ended_share() const { return per(double(ended), replies); }  // by itself
  double mean_tokens() const { return per(double(tokens), replies); }
};

// What the log says of it, beside its own key for the number of replies.
inline nlohmann::json to_json(const Tally& tally) {
  nlohmann::json out = {{"accuracy", tally.accuracy()},
                        {"score", tally.score()},
                        {"right", tally.right},
                        {"ended_fraction", tally.ended_share()},
                        {"mean_tokens", tally.mean_tokens()}};
  if (!tally.task.empty()) out.update({{"task", tally.task}, {"n", tally.counted}});
  return out;
}

}  // namespace svfleet
