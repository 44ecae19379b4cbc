#include "worker/kernels/pages.h"

#include <gtest/gtest.h>

#include <vector>

namespace svfleet {
namespace {

const AttentionShape kShape{6, 2, 10, 1};

std::vector<float> counted(int64_t count, float from) {
  std::vector<float> result(count);
  for (int64_t i = 0; i < count; ++i) result[i] = from + i;
  return result;
}

TEST(Pages, KeepKeysTransposedAndValuesInRows) {
  ASSERT_EQ(page_elements(kShape), 2 * 2 * 10 * 32);
  std::vector<float> page(page_elements(kShape), -1);
  const auto key = counted(20, 100), value = counted(20, 200);
  store_key_value<float>(kShape, page.data(), 31, key.data(), value.data());
  int written = 0;
  for (float x : page) written += x != -1;
  EXPECT_EQ(written, 40);
  for (int head = 0; head < 2; ++head)
    for (int d = 0; d < 10; ++d) {
      EXPECT_EQ(page[head * 640 + d * 32 + 31], key[head * 10 + d]);
      EXPECT_EQ(page[head * 640 + 320 + 31 * 10 + d], value[head * 10 + d]);
    }
}

TEST(Pages, GiveBackWhatWasStored) {
  std::vector<double> page(page_elements(kShape));
  std::vector<double> key(20), value(20), key_back(20), value_back(20);
  for (int slot = 0; slot < kPageTokens; ++slot) {
    for (int i = 0; i < 20; ++i) {
      key[i] = slot * 100 + i;
      value[i] = -slot * 100 - i;
    }
    store_key_value<double>(kShape, page.data(), slot, key.data(), value.data());
  }
  for (int slot = 0; slot < kPageTokens; ++slot) {
    load_gradient<double>(kShape, page.data(), slot, key_back.data(), value_back.data());
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(key_back[i], slot * 100 + i);
      EXPECT_EQ(value_back[i], -slot * 100 - i);
    }
  }
}

// What a page holds of each token: [slots][40].
std::vector<std::vector<float>> tokens(const std::vector<float>& page) {
  std::vector<std::vector<float>> result(kPageTokens, std::vector<float>(40));
  for (int slot = 0; slot < kPageTokens; ++slot)
    load_gradient<float>(kShape, page.data(), slot, result[slot].data(), result[slot].data() + 20);
  return result;
}

TEST(Pages, CopyAndAddTheFirstSlotsAlone) {
  const auto from = counted(page_elements(kShape), 1),
             before = counted(page_elements(kShape), 5000);
  for (int slots : {0, 1, 13, 32}) {
    auto copy = before, sum = before;
    copy_slots<float>(kShape, from.data(), copy.data(), slots);
    add_slots<float>(kShape, from.data(), sum.data(), slots);
    for (int slot = 0; slot < kPageTokens; ++slot)
      for (int i = 0; i < 40; ++i) {
        const float a = tokens(from)[slot][i], b = tokens(before)[slot][i];
        ASSERT_EQ(tokens(copy)[slot][i], slot < slots ? a : b);
        ASSERT_EQ(tokens(sum)[slot][i], slot < slots ? a + b : b);
      }
  }
}

}  // namespace
}  // namespace svfleet
