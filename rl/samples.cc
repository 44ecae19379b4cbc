#include "rl/samples.h"

#include <algorithm>
#include <utility>

#include "comm/error.h"

namespace svfleet {
namespace {

// C(n, 0), ..., C(n, most).
std::vector<double> binomials(int64_t n, int64_t most) {
  std::vector<double> row(size_t(most) + 1, 0);
  row[0] = 1;
  for (int64_t s = 1; s <= std::min(n, most); ++s)
    row[size_t(s)] = row[size_t(s) - 1] * double(n - s + 1) / double(s);
  return row;
}

// Ways to draw from the answers so far such that none is drawn more than t times, by how many
// are drawn in all and how many answers are drawn t times. `credit`: over these ways, the sum of
// the credits of those t times drawn answers.
class Ways {
 public:
  Ways(int64_t k, int64_t t)
      : k_(k), t_(t), ties_(k / t + 1), ways_(size_t(k + 1) * size_t(ties_), 0), credit_(ways_) {
    ways_[0] = 1;
  }

  void add(const AnswerVotes& answer) {
    const std::vector<double> choose = binomials(answer.samples, t_);
    Ways more(k_, t_);
    more.ways_[0] = 0;
    for (int64_t drawn = 0; drawn <= k_; ++drawn)
      for (int64_t tied = 0; tied < ties_; ++tied) {
        const double ways = ways_[at(drawn, tied)], credit = credit_[at(drawn, tied)];
        if (ways == 0) continue;
        for (int64_t s = 0; s <= std::min({t_, answer.samples, k_ - drawn}); ++s) {
          const size_t to = at(drawn + s, tied + (s == t_));
          more.ways_[to] += ways * choose[size_t(s)];
          more.credit_[to] += (credit + (s == t_ ? ways * answer.credit : 0)) * choose[size_t(s)];
        }
      }
    *this = std::move(more);
  }

  // The credit of the t times drawn answers, shared among them, over all ways to draw k, the rest
  // of them from `silent`.
  double shared(int64_t silent) const {
    const std::vector<double> choose = binomials(silent, k_);
    double sum = 0;
    for (int64_t drawn = 0; drawn <= k_; ++drawn)
      for (int64_t tied = 1; tied < ties_; ++tied)
        sum += credit_[at(drawn, tied)] / double(tied) * choose[size_t(k_ - drawn)];
    return sum;
  }

 private:
  size_t at(int64_t drawn, int64_t tied) const { return size_t(drawn * ties_ + tied); }

  int64_t k_, t_, ties_;
  std::vector<double> ways_, credit_;  // [k + 1, ties_]
};

}  // namespace

double pass_at_k(int64_t n, int64_t right, int64_t k) {
  SVFLEET_CHECK(0 <= right && right <= n && 1 <= k && k <= n, right, " of ", n, ", ", k);
  double none = 1;  // of k is right
  for (int64_t i = n - right + 1; i <= n; ++i) none *= std::max(0.0, 1 - double(k) / double(i));
  return 1 - none;
}

double majority_at_k(const std::vector<AnswerVotes>& answers, int64_t n, int64_t k) {
  int64_t silent = n, most = 0;
  for (const AnswerVotes& answer : answers) {
    silent -= answer.samples;
    most = std::max(most, answer.samples);
  }
  SVFLEET_CHECK(silent >= 0 && 1 <= k && k <= n && n <= kMostSamples, k, " of ", n, ", ", silent);
  double sum = 0;
  for (int64_t t = 1; t <= std::min(k, most); ++t) {
    Ways ways(k, t);
    for (const AnswerVotes& answer : answers) ways.add(answer);
    sum += ways.shared(silent);
  }
  return sum / binomials(n, k)[size_t(k)];
}

std::vector<int64_t> sample_counts(int64_t n) {
  std::vector<int64_t> counts;
  for (int64_t k = 1; k < n; k *= 2) counts.push_back(k);
  counts.push_back(n);
  return counts;
}

}  // namespace svfleet
