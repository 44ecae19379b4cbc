// Whether two differ, measured on the same items: paired tests, and what several of them are worth.
#pragma once

#include <cstdint>
#include <vector>

namespace svfleet {

struct McNemar {
  int64_t only_first = 0;   // right by the first only
  int64_t only_second = 0;  // right by the second only
  double p = 1;             // exact two-sided binomial (McNemar 1947)
};
// Items in the same order. Sizes must agree.
McNemar mcnemar(const std::vector<bool>& first, const std::vector<bool>& second);

struct PairedT {
  double gain = 0;           // mean of second - first
  double low = 0, high = 0;  // of its 95 % interval
  double p = 1;              // two-sided
};
// Student's t on the differences (Student 1908), n - 1 degrees of freedom. Where all differ alike,
// so that t has no measure of spread, p is that of n equal signs. Items in the same order; sizes
// must agree.
PairedT paired_t(const std::vector<double>& first, const std::vector<double>& second);

struct SignFlips {
  int64_t first_better = 0, second_better = 0;  // clusters
  double p = 1;                                 // two-sided
  bool exact = true;
};
// Permutation test of a difference in means, where only clusters are independent
// (cluster_intervals): without a difference, each cluster's sum of second - first is as likely to
// have the other sign (Fisher 1935). All 2^n signs of the n clusters that differ where n <= 20;
// else 20,000 keyed draws, p = (1 + those as large) / 20,001 (Phipson and Smyth 2010), whose
// standard error is 0.0015 at p = 0.05. Items in the same order; sizes must agree.
SignFlips sign_flips(const std::vector<double>& first, const std::vector<double>& second,
                     const std::vector<int64_t>& clusters);

// p of each of several tests such that one of those at or below a level is wrong with at most that
// probability, however the tests depend on each other (Holm 1979).
std::vector<double> holm(const std::vector<double>& p);

}  // namespace svfleet
