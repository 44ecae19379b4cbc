// Which device a rank gets, and what it is told where there is none.
#include "worker/device.h"

#include <gtest/gtest.h>

#include "comm/error.h"
#ifdef SVFLEET_HAVE_CUDA
#include "comm/nccl_reducer.h"
#endif

namespace svfleet {
namespace {

TEST(Device, TheCpuIsThereForEveryRank) {
  for (int rank : {0, 7}) {
    const Device device = open_device("cpu", rank, "n3");
    EXPECT_FALSE(device.on_gpu());
    EXPECT_EQ(device.gpu, "");
  }
}

TEST(Device, WithoutAGpuTheHostAndTheReasonAreNamed) {
#ifdef SVFLEET_HAVE_CUDA
  const std::string reason = why_no_gpu();
  if (reason.empty()) GTEST_SKIP() << "there is a GPU";
#else
  const std::string reason = "built without CUDA";
#endif
  try {
    open_device("cuda", 0, "n3");
    FAIL() << "nothing thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    const std::string text = error.what();
    for (const std::string& part : {std::string("model.device"), std::string("host n3"), reason})
      EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace svfleet
