// Vectors of random numbers of each type, and what they are in double.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include "worker/kernels/bf16.h"

namespace svfleet {

template <class T>
std::vector<T> random_numbers(size_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<T> out(count);
  for (T& x : out) x = narrow<T>(Wide<T>(normal(engine)));
  return out;
}

template <class T>
double value(T x) {
  return double(widen(x));
}

template <class T>
bool same_bits(const T* a, const T* b, size_t count) {
  return std::memcmp(a, b, count * sizeof(T)) == 0;
}

}  // namespace svfleet
