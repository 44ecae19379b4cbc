#include "svd/target.h"

#include <gtest/gtest.h>

#include "comm/error.h"

namespace svfleet {
namespace {

// SmolLM2-135M: hidden 576, 9 query and 3 key heads of 64, intermediate 1536.
const std::vector<MatrixShape> kShapes = {
    {"q_proj", 576, 576},     {"k_proj", 192, 576},   {"v_proj", 192, 576},    {"o_proj", 576, 576},
    {"gate_proj", 1536, 576}, {"up_proj", 1536, 576}, {"down_proj", 576, 1536}};

TEST(Targets, MlpOfThePublishedModelHasItsCount) {
  auto targets = choose_targets({"mlp"}, "all", 30, kShapes);
  EXPECT_EQ(targets.size(), 90u);
  EXPECT_EQ(total_length(targets), 51840);  // as trained by the published method's reference
}

TEST(Targets, FormsFollowTheSmallerSide) {
  auto targets = choose_targets({"all"}, "0", 30, kShapes);
  ASSERT_EQ(targets.size(), 7u);
  const Form expected[] = {Form::kRight, Form::kLeft,  Form::kLeft, Form::kLeft,
                           Form::kRight, Form::kRight, Form::kLeft};
  for (int i = 0; i < 7; ++i) EXPECT_EQ(targets[i].form, expected[i]) << targets[i].name;
  EXPECT_EQ(targets[1].length(), 192);
  EXPECT_EQ(targets[1].offset, 576);
}

TEST(Targets, RangesOfLayers) {
  auto targets = choose_targets({"q_proj"}, "0..2,7,28..29", 30, kShapes);
  std::vector<int> layers;
  for (const auto& t : targets) layers.push_back(t.layer);
  EXPECT_EQ(layers, (std::vector<int>{0, 1, 2, 7, 28, 29}));
  EXPECT_EQ(targets[3].name, "model.layers.7.self_attn.q_proj.weight");
}

TEST(Targets, WrongChoicesAreRefused) {
  EXPECT_THROW(choose_targets({"mpl"}, "all", 30, kShapes), Error);
  EXPECT_THROW(choose_targets({"mlp"}, "30", 30, kShapes), Error);
  EXPECT_THROW(choose_targets({"mlp"}, "3..1", 30, kShapes), Error);
  EXPECT_THROW(choose_targets({"mlp"}, "a..b", 30, kShapes), Error);
  EXPECT_THROW(choose_targets({"mlp"}, "0,,1", 30, kShapes), Error);
  EXPECT_THROW(choose_targets({}, "all", 30, kShapes), Error);
}

}  // namespace
}  // namespace svfleet
