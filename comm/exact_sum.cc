#include "comm/exact_sum.h"

#include <bit>
#include <climits>
#include <cmath>
#include <string>

#include "comm/error.h"

namespace svfleet {
namespace {

constexpr int32_t kAllZero = INT32_MIN;  // the exponent of a segment without a non-zero term
constexpr uint32_t kLargestFinite = 0x7f7fffff;

// |x| as an integer mantissa times a power of two. Read from the bits and not by floating-point
// instructions: a thread may have been told to flush subnormals to zero.
struct Parts {
  int64_t mantissa;  // < 2^24
  int exponent;      // |x| = mantissa * 2^exponent
};

Parts parts_of(uint32_t magnitude) {
  const int biased = static_cast<int>(magnitude >> 23);
  const int64_t fraction = magnitude & 0x7fffff;
  if (biased == 0) return {fraction, -149};
  return {fraction | 0x800000, biased - 150};
}

// The smallest e with |x| < 2^e.
int32_t exponent_above(uint32_t magnitude) {
  const Parts parts = parts_of(magnitude);
  return parts.exponent + std::bit_width(static_cast<uint64_t>(parts.mantissa));
}

// x * 2^scale, rounded to the nearest integer, halves to even.
int64_t fixed_point(float x, int scale) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const Parts parts = parts_of(bits & 0x7fffffff);
  const int shift = parts.exponent + scale;
  int64_t value = 0;
  if (shift >= 0) {
    value = parts.mantissa << shift;
  } else if (shift >= -25) {
    const int right = -shift;
    const int64_t half = int64_t{1} << (right - 1);
    const int64_t rest = parts.mantissa & ((int64_t{1} << right) - 1);
    value = parts.mantissa >> right;
    if (rest > half || (rest == half && (value & 1))) ++value;
  }
  return bits >> 31 ? -value : value;
}

// Bits of a rounded term: the sum of max_terms of them stays within 2^62.
int term_bits(int64_t max_terms) {
  return 62 - std::bit_width(static_cast<uint64_t>(max_terms - 1));
}

int64_t checked_add(int64_t a, int64_t b) {
  int64_t sum = 0;
  SVFLEET_CHECK(!__builtin_add_overflow(a, b, &sum), a, " + ", b);
  return sum;
}

}  // namespace

ExactTotal exact_sum(const std::vector<std::span<const float>>& terms,
                     std::span<const int64_t> segment_ends, int64_t max_terms, Group& group,
                     Reducer& reducer) {
  SVFLEET_CHECK(max_terms >= 1 && max_terms <= int64_t{1} << 32, max_terms, " terms at most");
  const int64_t n = segment_ends.empty() ? 0 : segment_ends.back();
  const size_t segments = segment_ends.size();
  int64_t before = 0;
  for (const int64_t end : segment_ends) {
    SVFLEET_CHECK(end >= before, "segment end ", end, " after ", before);
    before = end;
  }
  for (const auto& term : terms)
    SVFLEET_CHECK(static_cast<int64_t>(term.size()) == n, term.size(), " floats for ", n);
  const int bits = term_bits(max_terms);

  // One maximum carries the exponents, what must stop all ranks together, and a comparison.
  enum { kNotFinite, kTooMany, kBits, kMinusBits, kFlags };
  std::vector<int32_t> maxima(segments + kFlags, kAllZero);
  int32_t* flags = maxima.data() + segments;
  flags[kNotFinite] = 0;
  flags[kTooMany] = static_cast<int64_t>(terms.size()) > max_terms;
  flags[kBits] = bits;
  flags[kMinusBits] = -bits;
  for (const auto& term : terms) {
    int64_t i = 0;
    for (size_t s = 0; s < segments; ++s) {
      uint32_t largest = 0;
      for (; i < segment_ends[s]; ++i)
        largest = std::max(largest, std::bit_cast<uint32_t>(term[i]) & 0x7fffffff);
      if (largest > kLargestFinite)
        flags[kNotFinite] = 1;
      else if (largest > 0)
        maxima[s] = std::max(maxima[s], exponent_above(largest));
    }
  }
  group.all_reduce_max(maxima, "exponents of the exact sum");
  SVFLEET_CHECK(flags[kBits] == -flags[kMinusBits], flags[kBits], " bits on one rank and ",
                -flags[kMinusBits], " on another: max_terms differs");
  SVFLEET_CHECK(!flags[kTooMany], "one rank alone holds more than ", max_terms, " terms");
  if (flags[kNotFinite]) return {false, {}};

  std::vector<int64_t> sums(n + 1, 0);
  for (const auto& term : terms) {
    int64_t i = 0;
    for (size_t s = 0; s < segments; ++s) {
      if (maxima[s] == kAllZero) {
        i = segment_ends[s];
        continue;
      }
      const int scale = bits - maxima[s];
      for (; i < segment_ends[s]; ++i) sums[i] = checked_add(sums[i], fixed_point(term[i], scale));
    }
  }
  sums[n] = static_cast<int64_t>(terms.size());
  reducer.sum(sums, "integers of the exact sum");
  SVFLEET_CHECK(sums[n] <= max_terms, sums[n], " terms on all ranks and ", max_terms, " announced");

  ExactTotal total;
  total.sum.resize(n);
  int64_t i = 0;
  for (size_t s = 0; s < segments; ++s) {
    const int scale = bits - maxima[s] * (maxima[s] != kAllZero);
    for (; i < segment_ends[s]; ++i) {
      SVFLEET_CHECK(std::abs(sums[i]) <= int64_t{1} << 62, "sum ", sums[i], " at ", i);
      total.sum[i] = std::ldexp(static_cast<double>(sums[i]), -scale);
    }
  }
  return total;
}

}  // namespace svfleet
