// How sure one may be of a mean: 95 % intervals of independent items, and of items in clusters.
#pragma once

#include <cstdint>
#include <vector>

namespace svfleet {

struct Interval {
  double low = 0, high = 1;
};
// Wilson score interval (Wilson 1927), two-sided, at `confidence`.
Interval wilson(int64_t right, int64_t n, double confidence = 0.95);

// What is averaged: a value of each item, in [least, 1].
struct Column {
  std::vector<double> values;
  double least = 0;
};

// 95 % interval of the mean over items of each column, where only the clusters are independent:
// clusters[i] is that of item i, numbered from 0 without gaps. Bootstrap of whole clusters, BCa
// (Efron 1987): shares near 0 or 1 are skewed, which plain percentiles miss. Percentiles are also
// too narrow by sqrt((G-1)/G), and by the normal's for t's, of G clusters; so the level is that of
// Hesterberg's expanded percentiles (The American Statistician 69, 2015, section 5.1). Where all
// clusters have one mean, which shows no spread to draw from, it is Wilson's of as many items as
// there are clusters. Draws are keyed by their number alone: the same items, the same interval.
std::vector<Interval> cluster_intervals(const std::vector<Column>& columns,
                                        const std::vector<int64_t>& clusters);

}  // namespace svfleet
