// The reducer over NCCL: over one GPU (a group of one) or, under mpirun, over one GPU a rank.
#include "comm/nccl_reducer.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "comm/error.h"
#include "comm/exact_sum.h"

namespace svfleet {
namespace {

TEST(NcclReducer, WithoutAGpuTheReasonIsGiven) {
  const std::string reason = why_no_gpu();
  if (reason.empty()) GTEST_SKIP() << "there is a GPU";
  try {
    const auto alone = make_single();
    make_nccl_reducer(*alone, {});
    FAIL() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos);
  }
}

class OnGpu : public testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = why_no_gpu();
    if (!reason.empty()) GTEST_SKIP() << reason;
    int devices = 0;
    cudaGetDeviceCount(&devices);
    if (launch_size() > devices)
      GTEST_SKIP() << launch_size() << " ranks and " << devices << " GPUs";
    if (group_) return;
    group_ = make_world({.timeout_s = 60});
    reducer_ = make_nccl_reducer(*group_, {.device = launch_rank()});
  }
  static void TearDownTestSuite() {
    reducer_.reset();
    group_.reset();
  }
  static std::unique_ptr<Group> group_;
  static std::unique_ptr<Reducer> reducer_;
};
std::unique_ptr<Group> OnGpu::group_;
std::unique_ptr<Reducer> OnGpu::reducer_;

TEST_F(OnGpu, SumsOfMoreThanTheStagingBufferHolds) {
  const int64_t n = group_->size();
  std::vector<int64_t> sums((8 << 20) + 3);
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = (int64_t{1} << 53) + group_->rank();
  reducer_->sum(sums, "sums");
  size_t wrong = 0;
  for (const int64_t sum : sums) wrong += sum != n * (int64_t{1} << 53) + n * (n - 1) / 2;
  EXPECT_EQ(wrong, 0u);
}

TEST_F(OnGpu, ExactSumHasTheBitsOfAHostGroup) {
  std::vector<float> all(8 * 100);
  for (size_t i = 0; i < all.size(); ++i)
    all[i] = static_cast<float>(1.0 / (i + 1)) * (i % 3 ? 1e-3f : -7.0f);
  std::vector<std::span<const float>> terms, mine;
  for (int t = 0; t < 8; ++t) {
    terms.push_back(std::span(all).subspan(100 * t, 100));
    if (t % group_->size() == group_->rank()) mine.push_back(terms.back());
  }
  const std::vector<int64_t> ends = {40, 100};
  const auto alone = make_single();
  const ExactTotal truth = exact_sum(terms, ends, 8, *alone, *make_host_reducer(*alone));
  const ExactTotal total = exact_sum(mine, ends, 8, *group_, *reducer_);
  ASSERT_EQ(total.sum.size(), truth.sum.size());
  EXPECT_EQ(std::memcmp(total.sum.data(), truth.sum.data(), 100 * sizeof(double)), 0);
}

TEST_F(OnGpu, AlgorithmIsPinned) {
  EXPECT_STREQ(std::getenv("NCCL_ALGO"), "Ring");
  EXPECT_STREQ(std::getenv("NCCL_PROTO"), "Simple");
}

}  // namespace
}  // namespace svfleet
