// Time of attend and attend_gradient, and the share of it that the bare multiply-adds would take.
// Two threads gain nothing on the two hyperthreads of one core, which share its multiply-adds.
// Built by hand:
//   g++ -std=c++20 -O2 -fopenmp -I. tests/worker/kernels/bench_attention.cc libsvfleet_attention.a
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "worker/kernels/attention.h"

namespace svfleet {
namespace {

using Clock = std::chrono::steady_clock;

// The shortest of several calls, in microseconds.
template <class F>
double shortest(F f) {
  double best = 1e30;
  for (int i = 0; i < 15; ++i) {
    const auto start = Clock::now();
    f();
    best = std::min(best, std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
  return best;
}

// Multiply-adds of 16 float32 per microsecond, in ten independent chains.
__attribute__((target("avx512f"))) double lanes_per_microsecond() {
  const int count = 100000;
  return 10 * count / shortest([&] {
           for (int i = 0; i < count; ++i)
             asm volatile(
                 "vfmadd231ps %%zmm0, %%zmm0, %%zmm1\n\tvfmadd231ps %%zmm0, %%zmm0, %%zmm2\n\t"
                 "vfmadd231ps %%zmm0, %%zmm0, %%zmm3\n\tvfmadd231ps %%zmm0, %%zmm0, %%zmm4\n\t"
                 "vfmadd231ps %%zmm0, %%zmm0, %%zmm5\n\tvfmadd231ps %%zmm0, %%zmm0, %%zmm6\n\t"
                 "vfmadd231ps %%zmm0, %%zmm0, %%zmm7\n\tvfmadd231ps %%zmm0, %%zmm0, %%zmm8\n\t"
                 "vfmadd231ps %%zmm0, %%zmm0, %%zmm9\n\tvfmadd231ps %%zmm0, %%zmm0, %%zmm10" ::
                     : "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10");
         });
}

struct Case {
  AttentionShape shape;
  std::vector<std::vector<bf16>> pages;
  std::vector<std::vector<float>> d_pages;
  std::vector<std::vector<const bf16*>> lists;  // per row
  std::vector<std::vector<float*>> d_lists;
  std::vector<int64_t> keys;
};

std::vector<bf16> noise(int64_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<bf16> result(count);
  for (bf16& x : result) x = to_bf16(normal(random));
  return result;
}

// Rows of which those with the same number in `sequence` share all their pages.
Case make(const AttentionShape& shape, const std::vector<int>& sequence,
          const std::vector<int64_t>& keys) {
  std::mt19937 random(1);
  Case c{shape, {}, {}, {}, {}, keys};
  std::vector<std::vector<int>> of(*std::max_element(sequence.begin(), sequence.end()) + 1);
  const int64_t longest = *std::max_element(keys.begin(), keys.end());
  for (auto& list : of)
    for (int64_t p = 0; p * kPageTokens < longest; ++p) {
      list.push_back(c.pages.size());
      c.pages.push_back(noise(page_elements(shape), random));
      c.d_pages.emplace_back(page_elements(shape));
    }
  for (int s : sequence) {
    c.lists.emplace_back();
    c.d_lists.emplace_back();
    for (int page : of[s]) {
      c.lists.back().push_back(c.pages[page].data());
      c.d_lists.back().push_back(c.d_pages[page].data());
    }
  }
  return c;
}

void measure(const char* name, Case c, int threads, bool backward, double lanes) {
  std::mt19937 random(2);
  const int64_t width = int64_t(c.shape.heads) * c.shape.head_dim, rows = c.keys.size();
  const auto q = noise(rows * width, random), d_out = noise(rows * width, random);
  std::vector<bf16> out(rows * width);
  std::vector<float> log_sum(rows * c.shape.heads), d_q(rows * width);
  std::vector<AttentionRow<bf16>> asked;
  std::vector<AttentionGradientRow<bf16>> gradient;
  double work = 0;
  for (int64_t i = 0; i < rows; ++i) {
    asked.push_back({q.data() + i * width, c.lists[i].data(), c.keys[i], out.data() + i * width,
                     log_sum.data() + i * c.shape.heads});
    gradient.push_back({q.data() + i * width, out.data() + i * width,
                        log_sum.data() + i * c.shape.heads, d_out.data() + i * width,
                        c.lists[i].data(), c.d_lists[i].data(), c.keys[i], d_q.data() + i * width});
    work += double(c.keys[i]) * width / 16;
  }
  const double forward = shortest([&] { attend<bf16>(c.shape, asked, threads); });
  std::printf("%-40s %d threads: %9.1f us, %4.0f%%\n", name, threads, forward,
              100 * 2 * work / lanes / threads / forward);
  if (!backward) return;
  const double back = shortest([&] { attend_gradient<bf16>(c.shape, gradient, threads); });
  std::printf("%-40s %d threads: %9.1f us, %4.0f%%\n", "  its gradient", threads, back,
              100 * 5 * work / lanes / threads / back);
}

std::vector<int> numbered(int count) {
  std::vector<int> result(count);
  for (int i = 0; i < count; ++i) result[i] = i;
  return result;
}

}  // namespace
}  // namespace svfleet

int main(int argc, char** argv) {
  using namespace svfleet;
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const double lanes = lanes_per_microsecond();
  std::printf("%.0f multiply-adds of 16 numbers per us; the share is of what this allows\n", lanes);
  const AttentionShape small{9, 3, 64, 0.125}, every{16, 16, 64, 0.125}, large{16, 8, 128, 0.088};
  for (int64_t keys : {100, 200, 300})
    measure(("decode, 16 rows, 9/3 heads, " + std::to_string(keys) + " keys").c_str(),
            make(small, numbered(16), std::vector<int64_t>(16, keys)), threads, true, lanes);
  measure("decode, 1 row", make(small, {0}, {200}), threads, false, lanes);
  measure("decode, 16 rows, 16/16 heads", make(every, numbered(16), std::vector<int64_t>(16, 200)),
          threads, true, lanes);
  measure("decode, 16 rows, 16/8 heads of 128",
          make(large, numbered(16), std::vector<int64_t>(16, 200)), threads, true, lanes);
  for (int64_t tokens : {300, 1000, 3000}) {
    std::vector<int64_t> keys(tokens);
    for (int64_t i = 0; i < tokens; ++i) keys[i] = std::min<int64_t>(i + 1, 400);
    measure(("prompt or tree, " + std::to_string(tokens) + " tokens").c_str(),
            make(small, std::vector<int>(tokens, 0), keys), threads, true, lanes);
  }
}
