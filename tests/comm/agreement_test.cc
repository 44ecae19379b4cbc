// A fault of some ranks as the end of all: over 1, 2 and 4 ranks, and as pure functions.
#include "comm/agreement.h"

#include <gmock/gmock.h>

#include "tests/comm/world_main.h"

namespace svfleet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Part failed(ExitCode code, const std::string& text, bool of_node, bool maybe_ours = false,
            const std::string& place = "") {
  return {false, false, Failure{Error(code, text, of_node), maybe_ours}, place};
}

const Part kFine{false, true, std::nullopt, ""};

std::optional<AgreedError> judge(const std::vector<Part>& parts) {
  const std::vector<std::string> hosts = {"n1", "n1", "n2", "n3"};
  std::vector<std::string> names;
  for (size_t rank = 0; rank < parts.size(); ++rank)
    names.push_back(std::to_string(rank) + " (host " + hosts[rank] + ")");
  return verdict(parts, names, {hosts.begin(), hosts.begin() + std::ptrdiff_t(parts.size())});
}

TEST(Verdict, NamesRankHostAndPlace) {
  EXPECT_FALSE(judge({kFine, kFine}));
  const auto ecc =
      judge({kFine, kFine, failed(kExitRequeue, "a GPU", true, false, "chunk 3"), kFine});
  EXPECT_EQ(ecc->code(), kExitRequeue);
  EXPECT_STREQ(ecc->what(), "rank 2 (host n2), chunk 3: a GPU");
  EXPECT_THAT(ecc->hosts(), ElementsAre("n2"));
  EXPECT_EQ(ecc->place(), "");  // surely the machine's
  EXPECT_EQ(judge({kFine, failed(kExitRequeue, "a GPU", true, true, "chunk 3")})->place(),
            "chunk 3");
  EXPECT_STREQ(judge({failed(kExitDisk, "full", false)})->what(), "full");  // there is but one
}

TEST(Verdict, TheGravestIsTold) {
  const Part gpu = failed(kExitRequeue, "gpu", true), mount = failed(kExitDisk, "mount", true),
             full = failed(kExitDisk, "full", false), user = failed(kExitUser, "user", false),
             bug = failed(kExitInternal, "bug", false);
  EXPECT_EQ(judge({gpu, kFine, bug, user})->code(), kExitInternal);
  EXPECT_THAT(judge({gpu, kFine, bug, user})->hosts(), IsEmpty());
  EXPECT_EQ(judge({gpu, kFine, full, user})->code(), kExitUser);
  EXPECT_THAT(judge({gpu, kFine, full, mount})->what(), HasSubstr("full"));
  EXPECT_THAT(judge({gpu, kFine, full, mount})->hosts(), IsEmpty());
  EXPECT_THAT(judge({gpu, gpu, mount, kFine})->hosts(), ElementsAre("n1", "n2"));
  EXPECT_EQ(judge({gpu, gpu, mount, kFine})->code(), kExitDisk);
}

TEST(Verdict, WhatAnotherHostCouldReadIsThisOnesDisk) {
  const Part unreadable = failed(kExitUser, "no such file", true);
  EXPECT_EQ(judge({kFine, kFine, unreadable, kFine})->code(), kExitDisk);
  EXPECT_THAT(judge({kFine, kFine, unreadable, kFine})->hosts(), ElementsAre("n2"));
  // Controls: the others have not got so far, or share the machine, or it is no file at all.
  const Part idle{};
  EXPECT_EQ(judge({idle, idle, unreadable, idle})->code(), kExitUser);
  EXPECT_EQ(judge({kFine, unreadable})->code(), kExitUser);
  EXPECT_EQ(judge({kFine, kFine, failed(kExitUser, "a prompt", false)})->code(), kExitUser);
}

TEST(Minority, IsNamedByMoreThanHalfOnly) {
  EXPECT_THAT(minority({"a", "a", "b", "a"}).value(), ElementsAre(2));
  EXPECT_THAT(minority({"b", "a", "a", "c", "a"}).value(), ElementsAre(0, 3));  // rank 0 too
  EXPECT_THAT(minority({"a", "a"}).value(), IsEmpty());
  EXPECT_THAT(minority({"a"}).value(), IsEmpty());
  EXPECT_EQ(minority({"a", "b"}), std::nullopt);
  EXPECT_EQ(minority({"a", "a", "b", "b"}), std::nullopt);
  EXPECT_EQ(minority({"a", "b", "c"}), std::nullopt);
}

TEST(EndTogether, EveryRankThrowsTheSame) {
  const int last = world().size() - 1;
  std::vector<std::string> hosts;
  for (int rank = 0; rank <= last; ++rank) hosts.push_back("n" + std::to_string(rank));
  EXPECT_FALSE(end_together(world(), hosts, kFine, "end"));
  Part stop = kFine;
  stop.stop = world().rank() == last;
  EXPECT_TRUE(end_together(world(), hosts, stop, "end"));
  const Part mine = world().rank() == last
                        ? failed(kExitRequeue, "an address", true, true, "step 1, chunk 2")
                        : kFine;
  try {
    end_together(world(), hosts, mine, "end");
    ADD_FAILURE() << "no error";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), kExitRequeue);
    EXPECT_EQ(std::string(error.what()),
              "rank " + world().name(last) + ", step 1, chunk 2: an address");
    EXPECT_THAT(error.hosts(), ElementsAre(hosts.back()));
    EXPECT_EQ(error.place(), "step 1, chunk 2");
  }
  EXPECT_FALSE(end_together(world(), hosts, kFine, "end"));  // and the group goes on
}

}  // namespace
}  // namespace svfleet
