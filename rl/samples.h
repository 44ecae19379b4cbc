// What n samples of an item say of k of them, drawn without replacement.
#pragma once

#include <cstdint>
#include <vector>

namespace svfleet {

// The most samples of an item that are counted here: binomials beyond would leave a double.
constexpr int64_t kMostSamples = 1000;

// Probability that one of k samples is right, where `right` of n are: 1 - C(n-right, k) / C(n, k),
// unbiased (Chen et al. 2021, arXiv 2107.03374). 1 <= k <= n.
double pass_at_k(int64_t n, int64_t right, int64_t k);

// An answer that some of the samples give. `credit`: the share of these that are right; replies of
// one answer may differ in that where something beside the answer counts.
struct AnswerVotes {
  int64_t samples = 0;
  double credit = 0;
};
// Expected credit of the answer that most of k samples give (self-consistency, Wang et al. 2023,
// arXiv 2203.11171), answers that are equally frequent sharing it: the mean over all C(n, k) ways
// to draw k, by counting them, without sampling. Samples of n that `answers` leaves out have no
// answer and do not vote; where none votes nothing is right. k = 1 is the share of right ones,
// where those without an answer are wrong.
double majority_at_k(const std::vector<AnswerVotes>& answers, int64_t n, int64_t k);

// 1, 2, 4, ... below n, and n.
std::vector<int64_t> sample_counts(int64_t n);

}  // namespace svfleet
