// Two processes are the same kind exactly when nothing differs that may alter bits.
#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "coordinator/run/identity.h"

namespace svfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Identity, NamesWhatDiffers) {
  const std::string one = identity({"2.11.0", 1, ""});
  EXPECT_EQ(one, identity({"2.11.0", 1, ""}));
  EXPECT_THAT(differences(one, identity({"2.11.0", 2, ""})),
              ElementsAre("threads: 1 here, 2 in the run"));
  EXPECT_THAT(differences(one, identity({"2.12.0", 1, "H100"}), "on rank 0", "on rank 1"),
              ElementsAre("gpu: absent on rank 0, \"H100\" on rank 1",
                          "torch: \"2.11.0\" on rank 0, \"2.12.0\" on rank 1"));
  setenv("MKL_CBWR", "AVX2", 1);
  EXPECT_THAT(differences(one, identity({"2.11.0", 1, ""})),
              ElementsAre("environment.MKL_CBWR: absent here, \"AVX2\" in the run"));
  unsetenv("MKL_CBWR");
  setenv("OMP_NUM_THREADS", "7", 1);  // threads come from the configuration
  EXPECT_EQ(one, identity({"2.11.0", 1, ""}));
  unsetenv("OMP_NUM_THREADS");
}

// The kernel's own reading of the processor.
TEST(Identity, AgreesWithTheKernelAboutTheProcessor) {
  std::ifstream in("/proc/cpuinfo");
  std::string line, vendor;
  std::vector<std::string> flags;
  while (std::getline(in, line)) {
    const std::string value = line.substr(std::min(line.size(), line.find(": ") + 2));
    if (line.rfind("vendor_id", 0) == 0) vendor = value;
    if (line.rfind("flags", 0) == 0 && flags.empty()) {
      std::istringstream words(value);
      for (std::string word; words >> word;) flags.push_back(word);
    }
  }
  if (flags.empty()) GTEST_SKIP() << "/proc/cpuinfo names no flags here";
  const auto json = nlohmann::json::parse(identity({"2.11.0", 1, ""}));
  EXPECT_EQ(json["cpu"], vendor);
  EXPECT_EQ(json["tensor_width"], 1);
  const std::vector<std::string> sets = json["instruction_sets"];
  const auto in_sets = [&](const char* name) {
    return std::find(sets.begin(), sets.end(), name) != sets.end();
  };
  const auto in_flags = [&](const char* name) {
    return std::find(flags.begin(), flags.end(), name) != flags.end();
  };
  EXPECT_EQ(in_sets("sse4.2"), in_flags("sse4_2"));
  for (const char* name :
       {"avx", "fma", "avx2", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni",
        "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_tile", "avx_vnni"})
    EXPECT_EQ(in_sets(name), in_flags(name)) << name;
}

TEST(Identity, ProgramHashIsOfThisProgram) {
  EXPECT_EQ(program_hash().size(), 32u);
  EXPECT_EQ(program_hash(), program_hash());
  EXPECT_NE(program_hash(), std::string(32, '0'));
}

TEST(Differences, OfAnyTwoObjects) {
  EXPECT_THAT(differences("{}", "{}"), IsEmpty());
  EXPECT_THAT(differences("{\"a\":1,\"b\":[1]}", "{\"b\":[2],\"a\":1}"),
              ElementsAre("b: [1] here, [2] in the run"));
  EXPECT_THAT(differences("{\"a\":{\"x\":1}}", "{\"a\":{\"x\":2,\"y\":3}}"),
              ElementsAre("a.x: 1 here, 2 in the run", "a.y: absent here, 3 in the run"));
  EXPECT_THAT(differences("{\"a\":1}", "{\"a\":\"1\"}").size(), 1u);
  EXPECT_THAT(differences("{", "{}"), ElementsAre("the recorded settings cannot be read"));
}

}  // namespace
}  // namespace svfleet
