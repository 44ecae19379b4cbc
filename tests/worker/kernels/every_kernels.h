// Running something with each instruction set of this processor, and numbers to run it on.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "worker/kernels/bf16.h"
#include "worker/kernels/instruction_set.h"

namespace svfleet {

inline std::vector<Kernels> every_kernels() {
  std::vector<Kernels> out;
  for (Kernels which : {Kernels::kPlain, Kernels::kAvx2, Kernels::kAvx512})
    if (has_kernels(which)) out.push_back(which);
  return out;
}

// Within its life the kernels are `which`.
class WithKernels {
 public:
  explicit WithKernels(Kernels which) : before_(kernels()) { set_kernels(which); }
  ~WithKernels() { set_kernels(before_); }

 private:
  Kernels before_;
};

template <class T>
std::vector<T> normals(int64_t n, double scale, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, scale);
  std::vector<T> out(n);
  for (T& x : out) x = narrow<T>(Wide<T>(normal(random)));
  return out;
}

template <class T>
std::string bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// To T by way of the number's own spacing; the slow truth beside to_bf16.
template <class T>
double rounded(double x) {
  if (x == 0 || !std::isfinite(x) || sizeof(T) == 8) return x;
  if (sizeof(T) == 4) return float(x);
  const int exponent = std::max(std::ilogb(x), -126) - 7;
  return std::ldexp(std::nearbyint(std::ldexp(x, -exponent)), exponent);
}

// The distance of neighbours around x.
template <class T>
double spacing(double x) {
  const int digits = sizeof(T) == 2 ? 7 : sizeof(T) == 4 ? 23 : 52;
  return std::ldexp(1.0, (x == 0 ? -126 : std::max(std::ilogb(x), -126)) - digits);
}

}  // namespace svfleet
