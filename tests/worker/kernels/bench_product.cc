// Times products with a packed matrix: many rows against the rate of multiplying, few rows against
// the rate of reading the matrix.
// bench_product [inputs outputs [threads]]: by default, the shapes of a small model, in one thread.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tests/worker/kernels/random_numbers.h"
#include "worker/kernels/probe.h"
#include "worker/kernels/product.h"

namespace svfleet {
namespace {

template <class F>
double seconds(F f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

template <class F>
double best_seconds(F f) {
  double best = seconds(f), all = best;
  for (int run = 1; run < 200 && all < 0.15; ++run) {
    const double now = seconds(f);
    best = std::min(best, now);
    all += now;
  }
  return best;
}

template <class T>
void time_shape(NumberType type, int64_t inputs, int64_t outputs, int threads, bool wide) {
  const auto given = random_numbers<T>(size_t(inputs * outputs), 1);
  PackedMatrix matrix(type, given.data(), inputs, outputs, WeightOrder::kOutputs, threads);
  const double pack = best_seconds([&] {
    matrix = PackedMatrix(type, given.data(), inputs, outputs, WeightOrder::kOutputs, threads);
  });
  const double probe = best_seconds([&] { row_invariant_from(matrix, 256); });
  std::printf("%ld x %ld, %s, %d threads, %s results: pack %.2f ms, probe %.1f ms, %.1f MB\n",
              long(inputs), long(outputs), matrix.implementation().c_str(), threads,
              wide ? "wide" : "rounded", pack * 1e3, probe * 1e3, double(matrix.bytes()) * 1e-6);
  std::vector<int64_t> batches = {1, 2, 4, 8, 15, 16, 17, 31, 32, 64, 100, 256};
  if (inputs * outputs < 10000000) batches.push_back(3000);
  const int64_t most = batches.back();
  const auto x = random_numbers<T>(size_t(most * inputs), 2);
  const std::vector<Wide<T>> add(size_t(most * outputs), Wide<T>(1));
  std::vector<Wide<T>> y(size_t(most * outputs));
  std::printf("  rows  first us        us    us/row  with add     GF/s  weights GB/s\n");
  for (const int64_t rows : batches) {
    const auto run = [&](const void* addend) {
      matrix.multiply(x.data(), rows, y.data(), wide, {addend, nullptr});
    };
    const double first = seconds([&] { run(nullptr); });
    const double plain = best_seconds([&] { run(nullptr); });
    const double added = best_seconds([&] { run(add.data()); });
    std::printf("%6ld %9.0f %9.1f %9.2f %9.1f %8.0f %13.1f\n", long(rows), first * 1e6, plain * 1e6,
                plain / double(rows) * 1e6, added * 1e6,
                2e-9 * double(rows * inputs * outputs) / plain,
                double(matrix.bytes()) / plain * 1e-9);
  }
}

}  // namespace
}  // namespace svfleet

int main(int count, char** words) {
  using namespace svfleet;
  const int threads = count > 3 ? std::atoi(words[3]) : 1;
  if (count > 2) {
    const int64_t inputs = std::atol(words[1]), outputs = std::atol(words[2]);
    time_shape<bf16>(NumberType::kBf16, inputs, outputs, threads, false);
    time_shape<float>(NumberType::kFloat, inputs, outputs, threads, false);
    return 0;
  }
  time_shape<bf16>(NumberType::kBf16, 576, 1536, threads, false);
  time_shape<bf16>(NumberType::kBf16, 1536, 576, threads, false);
  time_shape<bf16>(NumberType::kBf16, 576, 576, threads, false);
  time_shape<bf16>(NumberType::kBf16, 576, 192, threads, false);
  time_shape<bf16>(NumberType::kBf16, 576, 16, threads, true);
  time_shape<bf16>(NumberType::kBf16, 16, 576, threads, true);
  time_shape<bf16>(NumberType::kBf16, 576, 49152, threads, true);
  return 0;
}
