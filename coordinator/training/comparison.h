// How sure one may be of what was measured: intervals of a policy's figures, and tests of two
// policies on the same items. Replies to one item, and items of one cluster, are not independent:
// where there are such, clusters of items are what is drawn and compared.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/training/measurement.h"
#include "coordinator/training/tally.h"
#include "rl/intervals.h"
#include "rl/paired_tests.h"

namespace svfleet {

// Adds a reply that counts, as every one does in an evaluation.
void count(const ItemResult& reply, Tally& tally);

// Whether a cluster has more than one reply.
bool has_clusters(const Measurement& measured);
int64_t count_clusters(const Measurement& measured);
// Whether a score is more than right or wrong: then the mean score is what is meant.
bool is_graded(const Measurement& measured);

struct AtK {
  int64_t k = 1;
  double pass = 0, majority = 0;  // rl/samples.h, means over items
  Interval pass_interval = {}, majority_interval = {};
};

struct Figures {
  Tally tally;                 // of replies
  Interval accuracy;           // 95 %: Wilson's, or by clusters
  std::vector<AtK> at_k = {};  // for k = 1, 2, 4, ...; none of a single sample
};
// Of one task, or of all (empty).
Figures figures_of(const Measurement& measured, size_t policy, const std::string& task);

struct Comparison {
  // Items, or clusters, in which only the one, or the one more often, is right.
  int64_t first_better = 0, second_better = 0;
  double p = 1;  // of the share of right replies: McNemar's, or by sign flips of clusters
  // Second - first, in [-1, 1]. Of the score: Student's t, or by clusters; of the accuracy: only
  // where there are clusters.
  PairedT score, accuracy;
};
Comparison compare_policies(const Measurement& measured, size_t first, size_t second);

}  // namespace svfleet
