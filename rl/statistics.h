// How sure one may be of an accuracy, and of a difference between two on the same items.
#pragma once

#include <cstdint>
#include <vector>

namespace svfleet {

struct Interval {
  double low = 0, high = 1;
};
// Wilson score interval (Wilson 1927), two-sided, at `confidence`.
Interval wilson(int64_t right, int64_t n, double confidence = 0.95);

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

}  // namespace svfleet
