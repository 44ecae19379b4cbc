// Evolution strategies: a population of perturbed parameters, and from the fitness of its members
// an estimate of the gradient, by forward passes alone. Pure functions of keyed signs: whoever
// computes a member or the estimate gets the same bits.
//
// Member 2j is p + size s_j and member 2j + 1 is p - size s_j (antithetic pairs, which cancel every
// even part of the fitness), s_j a vector of signs. Signs, not normals: they are the same number on
// every machine, all directions are of one length, and E[s s^T] = I all the same.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace svfleet {

// The population of one step.
struct Perturbation {
  uint64_t seed = 0;
  int64_t step = 0;
  double size = 0.02;  // how far each parameter moves
};

// +1 or -1, keyed by (seed, step, pair, parameter).
int perturbation_sign(const Perturbation& of, int64_t pair, int64_t parameter);

// Its parameters, of the length of p.
std::vector<float> member_of(const Perturbation& of, int64_t member, std::span<const float> p);

// Ranks of the fitness of P members, scaled to [-1/2, 1/2]: (rank - (P - 1) / 2) / (P - 1). Members
// of equal fitness share the mean of their ranks, so all are 0 where all fitness is equal. Only the
// order of the fitness counts: neither its scale nor a constant added to it. P is 2 or more.
std::vector<double> centred_ranks(std::span<const double> fitness);

// An estimate of the gradient at p of L = - utility, [parameters]:
//   - 1 / (P size) sum_j (utility_2j - utility_2j+1) s_j
// With utility linear in p its expectation is the gradient, and its cosine with it is about
// sqrt(N / (N + d - 1)) for N = P / 2 pairs and d parameters.
std::vector<float> evolution_gradient(const Perturbation& of, std::span<const double> utility,
                                      size_t parameters);

// What a step's record says of a population.
struct FitnessSummary {
  double mean = 0, min = 0, max = 0, std = 0;
  int64_t best = 0;   // the first member of the highest fitness
  int64_t apart = 0;  // pairs whose members differ: what the estimate is made of
  bool finite = true;
};
FitnessSummary summary_of(std::span<const double> fitness);

}  // namespace svfleet
