// Keyed, counter-based random numbers (Philox4x32-10, Salmon et al. 2011): a number is a pure
// function of its key, so nothing depends on who draws it or when.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace svfleet {

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// What a random number is for; part of its key, never renumber.
enum class Stream : uint32_t {
  kSample = 1,
  kPromptOrder = 2,
  kReward = 3,
  kInit = 4,
  kProbe = 5,
  kBootstrap = 6,
  kSignFlip = 7,
  kPerturbation = 8,
  kMixture = 9
};

// Uniform in [0, 1) with 53 bits.
double keyed_uniform(uint64_t seed, Stream stream, uint64_t a, uint64_t b, uint32_t c);
// The key of a sampled token: (run seed, step, prompt position, sample, token position).
double sample_uniform(uint64_t seed, int64_t step, int64_t prompt, int sample, int position);
// Permutation of 0..n-1 (Fisher-Yates on keyed numbers).
std::vector<int64_t> keyed_permutation(uint64_t seed, uint64_t task, uint64_t epoch, int64_t n);

}  // namespace svfleet
