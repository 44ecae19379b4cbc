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

Form form_of(const std::string& kind, int64_t rows, int64_t cols) {
  return choose_targets({kind}, "0", 1, {{kind, rows, cols}}).front().form;
}

// Whatever its shape: rows of q, gate and up are cut, columns of o and down.
TEST(Targets, FormsAreThoseThatShardingNeeds) {
  struct Shape {
    int64_t rows, cols;
  };
  for (const auto& [rows, cols] : {Shape{8, 12}, Shape{12, 8}, Shape{8, 8}}) {
    for (const char* kind : {"q_proj", "gate_proj", "up_proj"})
      EXPECT_EQ(form_of(kind, rows, cols), Form::kRight) << kind << " " << rows << " x " << cols;
    for (const char* kind : {"o_proj", "down_proj"})
      EXPECT_EQ(form_of(kind, rows, cols), Form::kLeft) << kind << " " << rows << " x " << cols;
    for (const char* kind : {"k_proj", "v_proj"})
      EXPECT_EQ(form_of(kind, rows, cols), rows < cols ? Form::kLeft : Form::kRight) << kind;
  }
}

// Gemma 3 1B: hidden 1152, 4 query heads of 256.
TEST(Targets, TheLargerSideIsThin) {
  const auto targets = choose_targets({"q_proj", "o_proj"}, "0", 26,
                                      {{"q_proj", 1024, 1152}, {"o_proj", 1152, 1024}});
  for (const Target& target : targets) {
    EXPECT_EQ(target.basis_rows(), 1152);
    EXPECT_EQ(target.length(), 1024);
    const Target square = on_smaller_side(target);
    EXPECT_NE(square.form, target.form);
    EXPECT_EQ(square.basis_rows(), 1024);
  }
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
