// A bit that flips in any frozen tensor, on any rank, is found within a round, and the step that a
// run then goes back to lies before the flip.
#include "coordinator/base/weight_watch.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/worker/model/fixtures.h"

namespace svfleet {
namespace {

TEST(WeightWatch, TheLeastNumberOfStepsWithAShareOfOnePercent) {
  EXPECT_EQ(steps_of_round(1, 1000, 500), 1);
  EXPECT_EQ(steps_of_round(1, 100, 500), 1);
  EXPECT_EQ(steps_of_round(1, 99, 500), 2);
  EXPECT_EQ(steps_of_round(0.2, 1, 500), 20);
  EXPECT_EQ(steps_of_round(100, 1, 500), 500);  // a piece in each step
  EXPECT_EQ(steps_of_round(1, 0, 500), 500);
  EXPECT_EQ(steps_of_round(0, 1, 500), 1);
  EXPECT_EQ(steps_of_round(1, 1, 0), 1);
}

struct Bench {
  Config config;
  Crew crew;
  Weights weights;
  Basis basis;

  static Config make_config() {
    Config config;
    config.model.path = tiny_folder("tiny_qwen2");  // has biases
    return config;
  }
  // bfloat16: the bases are held in two types.
  Bench()
      : config(make_config()),
        crew(config),
        weights(config.model.path, at::kBFloat16),
        basis(decompose_all(weights, {"all"}), weights) {}
  NamedTensors frozen() const {
    NamedTensors all = weights.frozen();
    for (auto& tensor : basis.frozen()) all.push_back(tensor);
    return all;
  }
  bool last_rank() { return crew.group().rank() == crew.ranks() - 1; }
};

constexpr int64_t kRound = 5;

// How long a step must be for rounds of kRound, by how long everything took.
double step_s(const WeightWatch& watch) {
  return watch.all_s() * 100 / kRound * 1.02;
}

void flip(const at::Tensor& tensor) {
  auto* bytes = static_cast<uint8_t*>(tensor.data_ptr());
  bytes[tensor.nbytes() / 3] ^= 16;
}

void is_clean_up_to_where_the_last_whole_round_began(Bench& bench) {
  WeightWatch watch(bench.frozen(), bench.crew, 40);
  for (int64_t step = 41; step <= 57; ++step) {
    EXPECT_EQ(watch.after_step(step, step_s(watch)), "");
    // Ranks with other clocks may agree on longer rounds, never on shorter ones.
    if (bench.crew.ranks() > 1) continue;
    const int64_t begun = 41 + (step - 40) / kRound * kRound - kRound;
    EXPECT_EQ(watch.clean_step(), step < 45 ? 40 : begun) << step;
  }
  EXPECT_EQ(watch.look_at_all(57), "");
  EXPECT_EQ(watch.clean_step(), 57);
}

void finds_one_bit_in_every_frozen_tensor(Bench& bench) {
  const auto frozen = bench.frozen();
  EXPECT_GT(frozen.size(), 60u);
  for (const auto& [name, tensor] : frozen) {
    WeightWatch watch(bench.frozen(), bench.crew, 0);
    std::string found;
    int64_t step = 0;
    while (found.empty() && step < 300) {
      if (step == 7 && bench.last_rank()) flip(tensor);  // in step 8
      ++step;
      found = watch.after_step(step, step_s(watch));
      EXPECT_TRUE(step > 7 || found.empty()) << name << " before it was flipped";
    }
    EXPECT_EQ(found.substr(0, name.size()), name);
    EXPECT_NE(found.find("on rank " + std::to_string(bench.crew.ranks() - 1)), found.npos) << found;
    EXPECT_EQ(watch.changed_here(), bench.last_rank());
    EXPECT_LE(watch.clean_step(), 7) << name;
    if (bench.crew.ranks() == 1) {
      EXPECT_LE(step, 7 + 2 * kRound) << name;
    }
    if (bench.last_rank()) flip(tensor);
  }
  WeightWatch watch(bench.frozen(), bench.crew, 0);
  EXPECT_EQ(watch.look_at_all(1), "");
  const at::Tensor& last = frozen.back().second;
  if (bench.last_rank()) flip(last);
  EXPECT_EQ(watch.look_at_all(2).substr(0, 10), frozen.back().first.substr(0, 10));
  EXPECT_EQ(watch.clean_step(), 1);
  if (bench.last_rank()) flip(last);
}

// One test: a process can be in one world only.
TEST(WeightWatch, LooksAtAllInEachRound) {
  Bench bench;
  is_clean_up_to_where_the_last_whole_round_began(bench);
  finds_one_bit_in_every_frozen_tensor(bench);
}

}  // namespace
}  // namespace svfleet
