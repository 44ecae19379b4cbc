#include "rl/intervals.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "comm/error.h"
#include "comm/random.h"
#include "rl/distributions.h"

namespace svfleet {
namespace {

constexpr int64_t kResamples = 4000;

Interval wilson_of_share(double share, double count, double confidence) {
  const double z = normal_quantile(confidence);
  const double scale = 1 + z * z / count;
  const double middle = (share + z * z / (2 * count)) / scale;
  const double half =
      z / scale * std::sqrt(share * (1 - share) / count + z * z / (4 * count * count));
  // At the ends the exact bounds are 0 and 1; rounding must not say otherwise.
  return {share == 0 ? 0 : std::max(0.0, middle - half),
          share == 1 ? 1 : std::min(1.0, middle + half)};
}

// A column by clusters: the sum of each, and how many items it has.
struct Sums {
  std::vector<double> sum, size;  // [clusters]

  double mean() const {
    return std::accumulate(sum.begin(), sum.end(), 0.0) /
           std::accumulate(size.begin(), size.end(), 0.0);
  }
  bool spreads(double mean) const {
    for (size_t c = 0; c < sum.size(); ++c)
      if (std::abs(sum[c] - mean * size[c]) > 1e-9 * size[c]) return true;
    return false;
  }
};

Sums by_cluster(const std::vector<double>& values, const std::vector<int64_t>& clusters) {
  SVFLEET_CHECK(values.size() == clusters.size(), values.size(), " and ", clusters.size(),
                " items");
  const size_t count = size_t(*std::max_element(clusters.begin(), clusters.end())) + 1;
  Sums sums{std::vector<double>(count), std::vector<double>(count)};
  for (size_t i = 0; i < values.size(); ++i) {
    sums.sum[size_t(clusters[i])] += values[i];
    sums.size[size_t(clusters[i])] += 1;
  }
  return sums;
}

// Means of each column over clusters drawn with replacement: [columns, resamples], sorted.
std::vector<std::vector<double>> resampled(const std::vector<Sums>& columns) {
  const size_t count = columns[0].sum.size();
  std::vector<std::vector<double>> means(columns.size());
  std::vector<size_t> drawn(count);
  for (int64_t r = 0; r < kResamples; ++r) {
    double size = 0;
    for (size_t i = 0; i < count; ++i) {
      const double at = keyed_uniform(0, Stream::kBootstrap, uint64_t(r), i, 0);
      drawn[i] = size_t(at * double(count));
      size += columns[0].size[drawn[i]];
    }
    for (size_t k = 0; k < columns.size(); ++k) {
      double sum = 0;
      for (const size_t c : drawn) sum += columns[k].sum[c];
      means[k].push_back(sum / size);
    }
  }
  for (std::vector<double>& of_column : means) std::sort(of_column.begin(), of_column.end());
  return means;
}

// Where the estimate stands among its resamples, as a normal deviate.
double bias(const std::vector<double>& means, double mean) {
  const double rounding = 1e-12;
  const auto below = std::lower_bound(means.begin(), means.end(), mean - rounding) - means.begin();
  const auto upto = std::upper_bound(means.begin(), means.end(), mean + rounding) - means.begin();
  const auto count = double(means.size());
  const double share = std::clamp(double(below + upto) / (2 * count), 0.5 / count, 1 - 0.5 / count);
  return (share < 0.5 ? -1 : 1) * normal_quantile(std::abs(2 * share - 1));
}

// A sixth of the skewness of the estimate, from leaving out each cluster (Efron 1987, section 6).
double acceleration(const Sums& sums) {
  const double sum = std::accumulate(sums.sum.begin(), sums.sum.end(), 0.0),
               size = std::accumulate(sums.size.begin(), sums.size.end(), 0.0);
  std::vector<double> without;
  for (size_t c = 0; c < sums.sum.size(); ++c)
    without.push_back((sum - sums.sum[c]) / (size - sums.size[c]));
  const double mean = std::accumulate(without.begin(), without.end(), 0.0) / double(without.size());
  double squares = 0, cubes = 0;
  for (const double x : without) {
    squares += std::pow(mean - x, 2);
    cubes += std::pow(mean - x, 3);
  }
  return cubes / (6 * std::pow(squares, 1.5));
}

// Of sorted values, between the two nearest.
double percentile(const std::vector<double>& sorted, double share) {
  const double at = share * double(sorted.size() - 1);
  const auto low = size_t(at), high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - double(low)) * (sorted[high] - sorted[low]);
}

Interval bca(const Sums& sums, const std::vector<double>& means, double mean) {
  const auto count = double(sums.sum.size());
  const double z = t_quantile(0.05, count - 1) * std::sqrt(count / (count - 1));
  const double z0 = bias(means, mean), a = acceleration(sums);
  const auto end = [&](double side) {
    const double flat = 1 - a * (z0 + side);
    // Past the pole of the transformation all resamples are on one side.
    if (flat <= 0) return side < 0 ? means.front() : means.back();
    return percentile(means, normal_share(z0 + (z0 + side) / flat));
  };
  return {end(-z), end(z)};
}

}  // namespace

Interval wilson(int64_t right, int64_t n, double confidence) {
  SVFLEET_CHECK(right >= 0 && right <= n, right, " of ", n);
  SVFLEET_CHECK(confidence > 0 && confidence < 1, confidence);
  if (n == 0) return {};
  return wilson_of_share(static_cast<double>(right) / static_cast<double>(n),
                         static_cast<double>(n), confidence);
}

std::vector<Interval> cluster_intervals(const std::vector<Column>& columns,
                                        const std::vector<int64_t>& clusters) {
  if (clusters.empty() || columns.empty()) return std::vector<Interval>(columns.size());
  std::vector<Sums> sums;
  for (const Column& column : columns) sums.push_back(by_cluster(column.values, clusters));
  const auto means = resampled(sums);
  std::vector<Interval> intervals;
  for (size_t k = 0; k < columns.size(); ++k) {
    const double mean = sums[k].mean();
    if (sums[k].spreads(mean)) {
      intervals.push_back(bca(sums[k], means[k], mean));
      continue;
    }
    const double least = columns[k].least, range = 1 - least;
    const double share = std::clamp((mean - least) / range, 0.0, 1.0);
    const Interval own = wilson_of_share(share, double(sums[k].sum.size()), 0.95);
    intervals.push_back({least + range * own.low, least + range * own.high});
  }
  return intervals;
}

}  // namespace svfleet
