#include <gtest/gtest.h>

#include <cmath>

#include "worker/kernels/lane_exp.h"

namespace svfleet {
namespace {

float exp_of(float x) {
  return exp(PlainLanes<float>::set(x)).v[5];
}

double worst_error(double below, double above, double step) {
  double worst = 0;
  for (double at = below; at < above; at += step) {
    const float x = float(at);
    const double truth = std::exp(double(x));
    worst = std::max(worst, std::abs(double(exp_of(x)) - truth) / truth);
  }
  return worst;
}

TEST(LaneExp, IsWithinItsErrorOfTheTruth) {
  EXPECT_LT(worst_error(-87.33, 88.37, 0.0037), 1.2e-7);
  EXPECT_LT(worst_error(-0.4, 0.4, 0.000013), 1.2e-7);
  EXPECT_GT(worst_error(-87.33, 88.37, 0.0037), 1e-8);  // float's own grid
}

TEST(LaneExp, EndsInZeroInfinityAndNaN) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp_of(0), 1);
  EXPECT_EQ(exp_of(-87.4f), 0);
  EXPECT_EQ(exp_of(-1e30f), 0);
  EXPECT_EQ(exp_of(-infinity), 0);
  EXPECT_GT(exp_of(-87.33f), 0);
  EXPECT_EQ(exp_of(88.8f), infinity);
  EXPECT_EQ(exp_of(infinity), infinity);
  for (uint32_t bits : {0x7fc00000u, 0x7fc00001u, 0xffc001ffu, 0x7fffffffu})
    EXPECT_TRUE(std::isnan(exp_of(std::bit_cast<float>(bits)))) << bits;
}

TEST(Lanes, AddUpInATree) {
  PlainLanes<double> lanes;
  for (int i = 0; i < kLanes; ++i) lanes.v[i] = std::ldexp(1.0, i);
  EXPECT_EQ(lanes.sum(), 65535);
  EXPECT_EQ(lanes.largest(), 32768);
  lanes = PlainLanes<double>::set(0);
  // 1e16 + 1 is 1e16: only where lanes 0 and 8 meet first is nothing lost.
  lanes.v[0] = 1e16, lanes.v[8] = -1e16, lanes.v[4] = 1;
  EXPECT_EQ(lanes.sum(), 1);
}

}  // namespace
}  // namespace svfleet
