// Sequences with keys and values in pages, as attention takes them, and their numbers in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "worker/kernels/attention.h"
#include "worker/kernels/instruction_set.h"

namespace svfleet {

template <class T>
T number(double x) {
  return narrow<T>(Wide<T>(x));
}

template <class T>
std::vector<T> random_numbers(int64_t count, std::mt19937& random, double scale = 1) {
  std::normal_distribution<double> normal(0, scale);
  std::vector<T> result(count);
  for (T& x : result) x = number<T>(normal(random));
  return result;
}

inline AttentionShape shape_of(int heads, int kv_heads, int head_dim, double soft_cap = 0,
                               int64_t window = 0) {
  return {heads, kv_heads, head_dim, 1 / std::sqrt(double(head_dim)), soft_cap, window};
}

inline const AttentionShape kShapes[] = {
    shape_of(9, 3, 64), shape_of(4, 4, 80), shape_of(6, 2, 96), shape_of(8, 1, 128),
    shape_of(2, 1, 2), shape_of(3, 1, 18), shape_of(7, 1, 34), shape_of(1, 1, 62),
    shape_of(80, 1, 30),
    // soft caps, and windows of a part of a page and of several
    shape_of(9, 3, 64, 0, 40), shape_of(4, 4, 80, 0.7), shape_of(6, 2, 96, 2, 33),
    shape_of(8, 1, 128, 0, 1), shape_of(3, 1, 18, 0.5, 64), shape_of(2, 1, 64, 0, 8)};

// Keys and values of sequences that may share their first pages. Slots without a token are NaN.
template <class T>
struct Sequences {
  // `shift` numbers lie before each page: off any alignment.
  explicit Sequences(const AttentionShape& shape, int shift = 0) : shape(shape), shift(shift) {}

  // A sequence of `tokens`, whose first `shared` pages are those of sequence `from`.
  int add(int64_t tokens, std::mt19937& random, int from = 0, int64_t shared = 0) {
    std::vector<T*> list;
    for (int64_t p = 0; p * kPageTokens < tokens; ++p) {
      if (p >= shared) memory.emplace_back(page_elements(shape) + shift, number<T>(NAN));
      list.push_back(p < shared ? pages[from][p] : memory.back().data() + shift);
    }
    const int64_t width = shape.kv_heads * shape.head_dim;
    for (int64_t j = shared * kPageTokens; j < tokens; ++j) {
      const auto key = random_numbers<T>(width, random), value = random_numbers<T>(width, random);
      store_key_value<T>(shape, list[j / kPageTokens], j % kPageTokens, key.data(), value.data());
    }
    pages.push_back(list);
    return pages.size() - 1;
  }

  // Straight from the layout that pages.h describes.
  int64_t key_at(int64_t token, int kv_head, int d) const {
    return (int64_t(kv_head) * 2 * shape.head_dim + d) * kPageTokens + token % kPageTokens;
  }
  int64_t value_at(int64_t token, int kv_head, int d) const {
    return (int64_t(kv_head) * 2 + 1) * shape.head_dim * kPageTokens +
           token % kPageTokens * shape.head_dim + d;
  }
  T& key(int sequence, int64_t token, int kv_head, int d) {
    return pages[sequence][token / kPageTokens][key_at(token, kv_head, d)];
  }
  T& value(int sequence, int64_t token, int kv_head, int d) {
    return pages[sequence][token / kPageTokens][value_at(token, kv_head, d)];
  }

  AttentionShape shape;
  int shift;
  std::vector<std::vector<T>> memory;
  std::vector<std::vector<T*>> pages;  // per sequence
};

// Which row of a call asks what, and where its results are.
template <class T>
struct Asked {
  int sequence;
  int64_t keys;
  std::vector<T> q, out, d_out;
  std::vector<Wide<T>> log_sum, d_q;
};

template <class T>
Asked<T> ask(const AttentionShape& shape, int sequence, int64_t keys, std::mt19937& random) {
  const int64_t width = int64_t(shape.heads) * shape.head_dim;
  Asked<T> asked{sequence,
                 keys,
                 random_numbers<T>(width, random),
                 std::vector<T>(width),
                 random_numbers<T>(width, random),
                 std::vector<Wide<T>>(shape.heads),
                 std::vector<Wide<T>>(width, Wide<T>(NAN))};
  return asked;
}

template <class T>
void attend_all(Sequences<T>& sequences, std::vector<Asked<T>>& asked, int threads = 1) {
  std::vector<AttentionRow<T>> rows;
  for (Asked<T>& a : asked)
    rows.push_back(
        {a.q.data(), sequences.pages[a.sequence].data(), a.keys, a.out.data(), a.log_sum.data()});
  attend<T>(sequences.shape, rows, threads);
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

inline std::string name_of(Kernels which) {
  return which == Kernels::kPlain ? "plain" : which == Kernels::kAvx2 ? "AVX2" : "AVX-512";
}

// Those that this processor can run.
inline std::vector<Kernels> all_kernels() {
  std::vector<Kernels> result;
  for (Kernels which : {Kernels::kPlain, Kernels::kAvx2, Kernels::kAvx512})
    if (has_kernels(which)) result.push_back(which);
  return result;
}

}  // namespace svfleet
