// NCCL over one GPU (a group of one) or, under mpirun, over one GPU a rank.
#include "comm/nccl_group.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "comm/error.h"
#include "comm/exact_sum.h"

namespace svfleet {
namespace {

TEST(NcclGroup, WithoutAGpuTheReasonIsGiven) {
  const std::string reason = why_no_gpu();
  if (reason.empty()) GTEST_SKIP() << "there is a GPU";
  try {
    make_nccl_group(make_single(), {});
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
    if (!group_) group_ = make_nccl_group(make_world({.timeout_s = 60}), {.device = launch_rank()});
  }
  static void TearDownTestSuite() { group_.reset(); }
  static std::unique_ptr<NcclGroup> group_;
};
std::unique_ptr<NcclGroup> OnGpu::group_;

TEST_F(OnGpu, HostSumsAndMaxima) {
  const int64_t n = group_->size();
  std::vector<int64_t> sums((8 << 20) + 3);  // more than the staging buffer holds
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = (int64_t{1} << 53) + group_->rank();
  static_cast<Group&>(*group_).all_reduce_sum(sums, "sums");
  size_t wrong = 0;
  for (const int64_t sum : sums) wrong += sum != n * (int64_t{1} << 53) + n * (n - 1) / 2;
  EXPECT_EQ(wrong, 0u);
  std::vector<int32_t> maxima = {group_->rank(), INT32_MIN};
  static_cast<Group&>(*group_).all_reduce_max(maxima, "maxima");
  EXPECT_EQ(maxima, (std::vector<int32_t>{group_->size() - 1, INT32_MIN}));
}

TEST_F(OnGpu, DeviceSumInAStream) {
  cudaStream_t stream;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  int64_t* values = nullptr;
  ASSERT_EQ(cudaMalloc(&values, 2 * sizeof(int64_t)), cudaSuccess);
  int64_t host[2] = {group_->rank(), -5};
  cudaMemcpyAsync(values, host, sizeof host, cudaMemcpyHostToDevice, stream);
  group_->all_reduce_sum(values, 2, stream, "device sum");
  group_->wait(stream, "device sum");
  cudaMemcpy(host, values, sizeof host, cudaMemcpyDeviceToHost);
  const int64_t n = group_->size();
  EXPECT_EQ(host[0], n * (n - 1) / 2);
  EXPECT_EQ(host[1], -5 * n);
  cudaFree(values);
  cudaStreamDestroy(stream);
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
  const ExactTotal truth = exact_sum(terms, ends, 8, *alone);
  const ExactTotal total = exact_sum(mine, ends, 8, *group_);
  ASSERT_EQ(total.sum.size(), truth.sum.size());
  EXPECT_EQ(std::memcmp(total.sum.data(), truth.sum.data(), 100 * sizeof(double)), 0);
}

TEST_F(OnGpu, AlgorithmIsPinned) {
  EXPECT_STREQ(std::getenv("NCCL_ALGO"), "Ring");
  EXPECT_STREQ(std::getenv("NCCL_PROTO"), "Simple");
}

}  // namespace
}  // namespace svfleet
