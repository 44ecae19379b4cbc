#include "comm/random.h"

#include <numeric>
#include <utility>

#include "comm/error.h"

namespace svfleet {

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> c, std::array<uint32_t, 2> key) {
  // Salmon et al. 2011, section 3.3: 10 rounds, multipliers and Weyl constants as published.
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ key[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return c;
}

namespace {

uint32_t low(uint64_t x) {
  return static_cast<uint32_t>(x);
}
uint32_t high(uint64_t x) {
  return static_cast<uint32_t>(x >> 32);
}

// The key is longer than one counter, so two blocks are chained. The first is a bijection of
// (b, c, stream) for a given seed, the second one of `a` for a given first: under one seed no two
// keys share both blocks.
uint64_t keyed_bits(uint64_t seed, Stream stream, uint64_t a, uint64_t b, uint32_t c) {
  const auto first =
      philox({low(b), high(b), c, static_cast<uint32_t>(stream)}, {low(seed), high(seed)});
  const auto second = philox({low(a), high(a), first[2], first[3]}, {first[0], first[1]});
  return uint64_t{second[1]} << 32 | second[0];
}

}  // namespace

double keyed_uniform(uint64_t seed, Stream stream, uint64_t a, uint64_t b, uint32_t c) {
  return static_cast<double>(keyed_bits(seed, stream, a, b, c) >> 11) * 0x1p-53;
}

double sample_uniform(uint64_t seed, int64_t step, int64_t prompt, int sample, int position) {
  SVFLEET_CHECK(step >= 0 && step < int64_t{1} << 32, step);
  SVFLEET_CHECK(prompt >= 0 && sample >= 0 && position >= 0, prompt, ", ", sample, ", ", position);
  const uint64_t step_and_position = static_cast<uint64_t>(step) << 32 | low(position);
  return keyed_uniform(seed, Stream::kSample, step_and_position, static_cast<uint64_t>(prompt),
                       static_cast<uint32_t>(sample));
}

std::vector<int64_t> keyed_permutation(uint64_t seed, uint64_t task, uint64_t epoch, int64_t n) {
  SVFLEET_CHECK(n >= 0 && n <= int64_t{1} << 32, n, " items");
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), int64_t{0});
  for (int64_t i = n - 1; i > 0; --i) {
    const uint64_t bits =
        keyed_bits(seed, Stream::kPromptOrder, epoch, task, static_cast<uint32_t>(i));
    // Multiply-shift keeps the bias below n / 2^64.
    const auto j = static_cast<int64_t>(static_cast<unsigned __int128>(bits) * (i + 1) >> 64);
    std::swap(order[i], order[j]);
  }
  return order;
}

}  // namespace svfleet
