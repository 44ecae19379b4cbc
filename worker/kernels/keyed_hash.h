// The 64-bit hash behind mix(): splitmix64's finalizer, once over the key and once over both.
#pragma once

#include <cstdint>

namespace svfleet {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;

inline uint64_t scramble(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

inline uint64_t scrambled_key(uint64_t key) {
  return scramble(key + kGolden);
}

inline uint64_t mix_scrambled(uint64_t scrambled, uint64_t value) {
  return scramble(scrambled + (value + 1) * kGolden);
}

}  // namespace
}  // namespace svfleet
