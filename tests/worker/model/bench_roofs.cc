#include "tests/worker/model/bench_roofs.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <barrier>
#include <cstdint>
#include <vector>

#include "comm/clock.h"
#include "tests/worker/model/bench_threads.h"
#include "worker/kernels/product.h"

namespace svfleet {
namespace {

constexpr int64_t kReadBytes = int64_t(512) << 20;
constexpr int kReadings = 5;
constexpr int64_t kRows[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
// Of SmolLM2-135M; of the head, a part that fits into a cache.
constexpr int64_t kShapes[][2] = {{576, 576}, {576, 1536}, {1536, 576}, {576, 4096}};

// Sixteen bytes at a time in every instruction set; four sums, so that no addition waits.
uint64_t sum_of(const uint64_t* from, int64_t count) {
  using Pair = uint64_t __attribute__((vector_size(16)));
  const auto* pairs = reinterpret_cast<const Pair*>(from);
  Pair sums[4] = {};
  for (int64_t i = 0; i < count / 2; i += 4)
    for (int k = 0; k < 4; ++k) sums[k] += pairs[i + k];
  uint64_t sum = 0;
  for (const Pair& pair : sums) sum += pair[0] + pair[1];
  return sum;
}

double bandwidth(int threads) {
  const int64_t count = kReadBytes / 8 / threads / 8 * 8;
  std::vector<at::Tensor> parts(static_cast<size_t>(threads));
  std::vector<uint64_t> sums(parts.size());
  in_threads(threads, [&](int t) { parts[size_t(t)] = at::ones({count}, at::kLong); });
  double best = 0;
  for (int reading = 0; reading < kReadings; ++reading) {
    Stopwatch watch;
    in_threads(threads, [&](int t) {
      sums[size_t(t)] =
          sum_of(reinterpret_cast<const uint64_t*>(parts[size_t(t)].data_ptr()), count);
    });
    best = std::max(best, double(count) * 8 * threads / watch.lap());
    for (const uint64_t sum : sums)
      if (int64_t(sum) != count) throw std::runtime_error("memory was not read as it is");
  }
  return best;
}

// Flops/s of all threads, each calling multiply(its own thread) again and again.
template <class Multiply>
double rate(int threads, double seconds, double flops, Multiply multiply) {
  std::vector<double> rates(static_cast<size_t>(threads));
  std::barrier ready(threads);
  in_threads(threads, [&](int t) {
    c10::NoGradGuard no_grad;
    multiply(t);
    ready.arrive_and_wait();
    const double begin = steady_clock_s();
    double now = begin;
    int64_t calls = 0;
    for (; now < begin + seconds; now = steady_clock_s(), ++calls) multiply(t);
    rates[size_t(t)] = flops * double(calls) / (now - begin);
  });
  double all = 0;
  for (const double one : rates) all += one;
  return all;
}

nlohmann::json products(at::ScalarType type, int threads, double seconds) {
  const NumberType number = type == at::kBFloat16 ? NumberType::kBf16 : NumberType::kFloat;
  nlohmann::json all = nlohmann::json::array();
  for (const auto& [inputs, outputs] : kShapes) {
    std::vector<at::Tensor> plain;
    std::vector<PackedMatrix> packed;
    for (int t = 0; t < threads; ++t) {
      plain.push_back(at::randn({outputs, inputs}).to(type));
      packed.emplace_back(number, plain.back().data_ptr(), inputs, outputs, WeightOrder::kOutputs,
                          1);
    }
    for (const int64_t rows : kRows) {
      std::vector<at::Tensor> x, y;
      for (int t = 0; t < threads; ++t) {
        x.push_back(at::randn({rows, inputs}).to(type));
        y.push_back(at::empty({rows, outputs}, type));
      }
      const double flops = 2 * double(rows) * double(inputs) * double(outputs);
      const double ours = rate(threads, seconds, flops, [&](int t) {
        packed[size_t(t)].multiply(x[size_t(t)].data_ptr(), rows, y[size_t(t)].data_ptr(), false);
      });
      const double libtorch =
          rate(threads, seconds, flops, [&](int t) { at::linear(x[size_t(t)], plain[size_t(t)]); });
      all.push_back({{"type", type == at::kBFloat16 ? "bfloat16" : "float32"},
                     {"inputs", inputs},
                     {"outputs", outputs},
                     {"rows", rows},
                     {"ours", ours},
                     {"libtorch", libtorch}});
    }
  }
  return all;
}

}  // namespace

nlohmann::json roofs(int threads, double seconds) {
  at::manual_seed(1);
  set_compute_threads(1);
  nlohmann::json all = products(at::kBFloat16, threads, seconds);
  for (auto& one : products(at::kFloat, threads, seconds)) all.push_back(one);
  return {{"threads", threads},
          {"bandwidth", bandwidth(threads)},
          {"implementation", product_identity()},
          {"products", all}};
}

}  // namespace svfleet
