// The cross-entropy method (Rubinstein 1999; de Boer et al. 2005) over the shares of a mixture:
// draw candidates from a normal distribution, keep the best ones, fit the distribution to them.
// It asks and is told; what a candidate is worth is for others to measure. Pure: everything follows
// from the options and from what was told.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svfleet {

// Shares of a mixture, one for each expert: none below 0, together at most `most`. What is missing
// to 1 is the base's, so that with `most` = 1 base and experts make a simplex.
using Shares = std::vector<double>;

// The nearest such shares (Euclidean; Held et al. 1974, Duchi et al. 2008).
Shares onto_simplex(Shares shares, double most);

// What a candidate is worth. Where scores are equal, `tie` decides, then who came first.
struct Fitness {
  double score = 0, tie = 0;
};
bool better(const Fitness& a, const Fitness& b);

struct CrossEntropyOptions {
  int experts = 1;
  double most = 1;
  int population = 32;        // candidates of a generation
  int64_t evaluations = 960;  // candidates of all generations, at most
  double elites = 0.2;        // of a generation: the share that the next one is fitted to
  double smoothing = 0.3;     // what the distribution keeps of itself
  // Times `most`: what no share's standard deviation falls below. One that has fallen to 0 would
  // never rise again.
  double least_spread = 0.02;
  int patience = 4;      // generations without a better one after which it is over
  double least_tie = 0;  // where scores are equal, what `tie` must gain to count for that
  uint64_t seed = 0;
};

// Shares are multiples of 1/1024: what a person reads in a recipe is what was measured.
class CrossEntropy {
 public:
  explicit CrossEntropy(const CrossEntropyOptions& options);

  // The candidates of the next generation. The first one begins with what needs no search: the base
  // alone, each expert alone, all in equal parts; the others with the distribution's mean. Empty
  // once it is over.
  std::vector<Shares> ask() const;
  // Of each of those.
  void tell(const std::vector<Fitness>& fitness);

  const Shares& best() const { return best_; }
  const Fitness& fitness() const { return best_fitness_; }  // of the best
  const Shares& mean() const { return mean_; }
  const Shares& spread() const { return spread_; }  // standard deviations
  int generations() const { return generation_; }
  int64_t evaluations() const { return evaluations_; }
  // Empty while it goes on, else "evaluations" or "no improvement": what ended it.
  const std::string& ended() const { return ended_; }

 private:
  Shares drawn(int candidate) const;
  void fit(const std::vector<Shares>& candidates, const std::vector<Fitness>& fitness);

  const CrossEntropyOptions options_;
  Shares mean_, spread_, best_;
  Fitness best_fitness_;
  int generation_ = 0, since_better_ = 0;
  int64_t evaluations_ = 0;
  std::string ended_;
};

}  // namespace svfleet
