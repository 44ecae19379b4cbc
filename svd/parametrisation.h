// From the trained parameters p to the scales z, and from dL/dz back to dL/dp. Plain loops in
// float64, rounded once to float32, so that every rank gets the same bits.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "svd/target.h"

namespace svfleet {

enum class Parametrisation {
  kDirect,   // z = 1 + p
  kSigmoid,  // z_i = sigmoid(p_i) sum(sigma) / sum(sigma sigmoid(p)): the published code's
};
Parametrisation parametrisation(const std::string& name);

// p at which z = 1 everywhere: 0 for both.
// p, z: [total_length(targets)]; sigmas[t]: [length of target t], read only for kSigmoid.
std::vector<float> z_of(Parametrisation kind, const std::vector<Target>& targets,
                        std::span<const float> p, const std::vector<std::vector<double>>& sigmas);

// dL/dz -> dL/dp, same shapes. For kSigmoid, with a = z dL/dz:
// dL/dp_i = (1 - sigmoid(p_i)) (a_i - z_i sigma_i / (sigma . z) sum(a)).
std::vector<float> chain_to_p(Parametrisation kind, const std::vector<Target>& targets,
                              std::span<const float> p, std::span<const double> dz,
                              const std::vector<std::vector<double>>& sigmas);

// p that gives this z, for starting at an expert. kSigmoid can only reproduce a z whose
// sum(sigma z) = sum(sigma) and whose ratios fit in (0, 1); Error(kExitUser) otherwise.
std::vector<float> p_of(Parametrisation kind, const std::vector<Target>& targets,
                        std::span<const float> z, const std::vector<std::vector<double>>& sigmas);

}  // namespace svfleet
