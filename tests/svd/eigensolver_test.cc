// Eigenvectors against the plain definition; and that bits depend on nothing but the matrix.
#include "svd/eigensolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <thread>

#include "comm/random.h"

namespace svfleet {
namespace {

using Numbers = std::vector<double>;

Numbers seeded(int64_t count, int seed) {
  Numbers numbers(count);
  for (int64_t i = 0; i < count; ++i)
    numbers[i] = 2 * keyed_uniform(uint64_t(seed), Stream::kInit, uint64_t(i), 0, 0) - 1;
  return numbers;
}

// Entry (i, j) of what gram_matrix() and symmetric_eigen() read.
double entry(const Numbers& gram, int64_t r, int64_t i, int64_t j) {
  return gram[std::min(i, j) * r + std::max(i, j)];
}

struct Solved {
  Numbers gram, values, vectors;
};
Solved solve(int64_t r, const Numbers& gram) {
  Solved s{gram, {}, Numbers(r * r)};
  s.values = symmetric_eigen("m", r, gram, s.vectors.data());
  return s;
}
Solved solve(const Numbers& a, int64_t rows, int64_t columns, bool of_columns) {
  const int64_t r = of_columns ? columns : rows;
  Numbers gram(r * r, std::nan(""));  // what is there must not matter
  gram_matrix(a.data(), rows, columns, of_columns, gram.data());
  return solve(r, gram);
}

// max |G Q - Q Lambda| and |Q^T Q - I|, the first relative to the largest value.
double worst(const Solved& s) {
  const int64_t r = int64_t(s.values.size());
  const double size = std::max(std::abs(s.values.front()), std::abs(s.values.back()));
  double most = 0;
  for (int64_t i = 0; i < r; ++i)
    for (int64_t k = 0; k < r; ++k) {
      double moved = -s.values[i] * s.vectors[i * r + k], product = i == k ? -1 : 0;
      for (int64_t j = 0; j < r; ++j) {
        moved += entry(s.gram, r, k, j) * s.vectors[i * r + j];
        product += s.vectors[i * r + j] * s.vectors[k * r + j];
      }
      most = std::max({most, size == 0 ? 0 : std::abs(moved) / size, std::abs(product)});
    }
  return most;
}

TEST(Eigensolver, GramMatricesAreSumsOfProducts) {
  const Numbers a = seeded(7 * 4, 1);
  for (bool of_columns : {true, false}) {
    const int64_t r = of_columns ? 4 : 7;
    Numbers gram(r * r, std::nan(""));
    gram_matrix(a.data(), 7, 4, of_columns, gram.data());
    for (int64_t i = 0; i < r; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < 11 - r; ++k)
          sum += of_columns ? a[k * 4 + i] * a[k * 4 + j] : a[i * 4 + k] * a[j * 4 + k];
        EXPECT_NEAR(entry(gram, r, i, j), sum, 1e-15);
        EXPECT_EQ(gram[i * r + j], i == j ? entry(gram, r, i, i) : 0) << "never read";
      }
  }
}

// One, two, fewer than a block of reflectors, one more than some blocks; without rank; zero.
TEST(Eigensolver, FindsEigenvectorsOfEverySize) {
  for (int64_t r : {1, 2, 3, 25, 26, 96, 97, 98, 200, 290}) {
    const Solved right = solve(seeded((r + 30) * r, 2), r + 30, r, true);
    EXPECT_LT(worst(right), 1e-13) << r;
    EXPECT_TRUE(std::is_sorted(right.values.begin(), right.values.end()));
    EXPECT_LT(worst(solve(seeded(r * (r + 30), 3), r, r + 30, false)), 1e-13) << r;
    EXPECT_LT(worst(solve(seeded((r / 2 + 1) * r, 4), r / 2 + 1, r, true)), 1e-13) << r;
    EXPECT_LT(worst(solve(Numbers(r * r), r, r, true)), 1e-13) << r;
  }
  // Control: two vectors that have changed places, and one number that is another.
  Solved wrong = solve(seeded(70 * 40, 2), 70, 40, true);
  std::swap_ranges(wrong.vectors.begin(), wrong.vectors.begin() + 40, wrong.vectors.begin() + 40);
  EXPECT_GT(worst(wrong), 1e-4);
  wrong = solve(seeded(70 * 40, 2), 70, 40, true);
  wrong.vectors[333] += 1e-9;
  EXPECT_GT(worst(wrong), 1e-11);
}

TEST(Eigensolver, AnswersDependOnNothingButTheMatrix) {
  const Numbers a = seeded(300 * 210, 5);
  const Solved alone = solve(a, 300, 210, true);
  // Elsewhere in memory.
  for (int64_t shift : {1, 3, 8}) {
    Numbers moved(a.size() + shift), vectors(210 * 210 + shift), gram(210 * 210 + shift);
    std::copy(a.begin(), a.end(), moved.begin() + shift);
    gram_matrix(moved.data() + shift, 300, 210, true, gram.data() + shift);
    const Numbers values = symmetric_eigen("m", 210, Numbers(gram.begin() + shift, gram.end()),
                                           vectors.data() + shift);
    EXPECT_EQ(values, alone.values);
    EXPECT_TRUE(std::equal(alone.vectors.begin(), alone.vectors.end(), vectors.begin() + shift));
  }
  // Beside others, of other sizes, in four threads on however many cores.
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int again = 0; again < 6; ++again) {
        const Solved s = solve(a, 300, 210, true);
        EXPECT_EQ(s.values, alone.values);
        EXPECT_EQ(0, std::memcmp(s.vectors.data(), alone.vectors.data(), 8 * 210 * 210));
        solve(seeded((80 + 31 * t) * 64, 6), 80 + 31 * t, 64, true);
      }
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(Eigensolver, StartsNoThreadsAndLeavesTheCallersCores) {
  const auto threads = [] {
    std::ifstream lines("/proc/self/status");
    for (std::string line; std::getline(lines, line);)
      if (line.rfind("Threads:", 0) == 0) return std::stoi(line.substr(8));
    return 0;
  };
  cpu_set_t cores;
  ASSERT_EQ(sched_getaffinity(0, sizeof cores, &cores), 0);
  const int many = CPU_COUNT(&cores);
  solve(seeded(600 * 300, 7), 600, 300, true);
  EXPECT_EQ(threads(), 1);
  ASSERT_EQ(sched_getaffinity(0, sizeof cores, &cores), 0);
  EXPECT_EQ(CPU_COUNT(&cores), many);
}

TEST(Eigensolver, SaysWhatItComputesWith) {
  EXPECT_THAT(eigensolver_identity(), ::testing::MatchesRegex("OpenBLAS [0-9.]+ .* MAX_THREADS.*"));
}

}  // namespace
}  // namespace svfleet
