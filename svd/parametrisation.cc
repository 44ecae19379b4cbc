#include "svd/parametrisation.h"

#include <algorithm>
#include <cmath>

#include "comm/error.h"

namespace svfleet {

Parametrisation parametrisation(const std::string& name) {
  if (name == "direct") return Parametrisation::kDirect;
  if (name == "sigmoid") return Parametrisation::kSigmoid;
  throw user_error("train.parametrisation: must be direct or sigmoid, got '", name, "'");
}

namespace {

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

}  // namespace

std::vector<float> z_of(Parametrisation kind, const std::vector<Target>& targets,
                        std::span<const float> p, const std::vector<std::vector<double>>& sigmas) {
  std::vector<float> z(p.size());
  if (kind == Parametrisation::kDirect) {
    for (size_t i = 0; i < p.size(); ++i) z[i] = 1.0f + p[i];
    return z;
  }
  for (size_t t = 0; t < targets.size(); ++t) {
    const std::vector<double>& sigma = sigmas[t];
    const int64_t offset = targets[t].offset;
    double total = 0, weighted = 0;
    for (size_t i = 0; i < sigma.size(); ++i) {
      total += sigma[i];
      weighted += sigma[i] * sigmoid(p[offset + i]);
    }
    // A zero matrix is itself under every z.
    double gain = weighted > 0 ? total / weighted : 2;
    for (size_t i = 0; i < sigma.size(); ++i)
      z[offset + i] = static_cast<float>(sigmoid(p[offset + i]) * gain);
  }
  return z;
}

std::vector<float> chain_to_p(Parametrisation kind, const std::vector<Target>& targets,
                              std::span<const float> p, std::span<const double> dz,
                              const std::vector<std::vector<double>>& sigmas) {
  std::vector<float> dp(p.size());
  if (kind == Parametrisation::kDirect) {
    for (size_t i = 0; i < p.size(); ++i) dp[i] = static_cast<float>(dz[i]);
    return dp;
  }
  std::vector<float> z = z_of(kind, targets, p, sigmas);
  for (size_t t = 0; t < targets.size(); ++t) {
    const std::vector<double>& sigma = sigmas[t];
    const int64_t offset = targets[t].offset;
    double a_total = 0, sigma_z = 0;
    for (size_t i = 0; i < sigma.size(); ++i) {
      a_total += z[offset + i] * dz[offset + i];
      sigma_z += sigma[i] * z[offset + i];
    }
    for (size_t i = 0; i < sigma.size(); ++i) {
      double zi = z[offset + i], a = zi * dz[offset + i];
      double pull = sigma_z > 0 ? zi * sigma[i] / sigma_z * a_total : 0;
      dp[offset + i] = static_cast<float>((1 - sigmoid(p[offset + i])) * (a - pull));
    }
  }
  return dp;
}

std::vector<float> p_of(Parametrisation kind, const std::vector<Target>& targets,
                        std::span<const float> z, const std::vector<std::vector<double>>& sigmas) {
  std::vector<float> p(z.size());
  if (kind == Parametrisation::kDirect) {
    for (size_t i = 0; i < z.size(); ++i) p[i] = z[i] - 1.0f;
    return p;
  }
  for (size_t t = 0; t < targets.size(); ++t) {
    const int64_t offset = targets[t].offset;
    double total = 0, weighted = 0, largest = 0;
    for (size_t i = 0; i < sigmas[t].size(); ++i) {
      double zi = z[offset + i];
      if (zi <= 0)
        throw user_error("train.init_from: z of ", targets[t].name,
                         " is not positive; the sigmoid parametrisation cannot start there, use "
                         "train.parametrisation: direct");
      total += sigmas[t][i];
      weighted += sigmas[t][i] * zi;
      largest = std::max(largest, zi);
    }
    if (std::abs(weighted - total) > 1e-4 * total)
      throw user_error("train.init_from: z of ", targets[t].name,
                       " changes the matrix's gain; the sigmoid parametrisation cannot, use "
                       "train.parametrisation: direct");
    // The scale of sigmoid(p) is free: half, so that z = 1 is p = 0, unless that leaves (0, 1).
    double scale = largest < 1.9 ? 0.5 : 0.95 / largest;
    for (size_t i = 0; i < sigmas[t].size(); ++i) {
      double s = scale * z[offset + i];
      p[offset + i] = static_cast<float>(std::log(s / (1 - s)));
    }
  }
  return p;
}

}  // namespace svfleet
