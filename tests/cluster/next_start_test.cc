// Where the ranks start next, and how the job script is told.
#include "cluster/next_start.h"

#include <gmock/gmock.h>

#include "comm/error.h"

namespace svfleet {
namespace {

using ::testing::ElementsAre;

RunDecision fault(std::vector<std::string> hosts, bool by_host = true) {
  return {kExitRequeue, "why", false, std::move(hosts), by_host};
}

Allocation of(std::vector<std::string> nodes, int64_t asked) {
  return {std::move(nodes), asked, {"n9"}};
}

std::string words(const RunDecision& decision, const Allocation& allocation,
                  const std::vector<std::string>& up = {}) {
  return in_words(decision, next_start(decision, allocation, [&] { return up; }));
}

TEST(NextStart, InTheAllocationAsLongAsHalfAreLeft) {
  EXPECT_EQ(words(fault({"n2"}), of({"n1", "n2", "n3"}, 3)), "again 2 n2");
  EXPECT_EQ(words(fault({"n2", "n1"}), of({"n1", "n2", "n3", "n4"}, 4)), "again 2 n2,n1");
  EXPECT_EQ(words(fault({"n2"}), of({"n1", "n2"}, 2)), "again 1 n2");
  EXPECT_EQ(words(fault({"n2", "n1"}), of({"n1", "n2", "n3"}, 3)), "requeue n9");
  EXPECT_EQ(words(fault({"n2", "n1"}), of({"n1", "n2", "n3"}, 2)), "again 1 n2,n1");  // one spare
  EXPECT_EQ(words(fault({"n1"}), of({"n1"}, 1)), "requeue n9");
  EXPECT_EQ(words(fault({"n2"}), of({"n1", "n2", "n3"}, 0)), "requeue n9");  // not by this script
  // The fault before was a host's, this end is not: what ended it may want another allocation.
  EXPECT_EQ(words(fault({"n2"}, false), of({"n1", "n2", "n3"}, 3)), "requeue n9");
}

TEST(NextStart, AMachineMayCallItselfByALongerName) {
  EXPECT_EQ(words(fault({"n2.example.org"}), of({"n1", "n2", "n3"}, 3)), "again 2 n2");
  EXPECT_EQ(words(fault({"n2"}), of({"n1.a", "n2.a", "n22.a"}, 3)), "again 2 n2.a");
  EXPECT_EQ(words(fault({"n2", "login"}), of({"n1", "n2", "n3"}, 3), {"n1", "n3", "n4"}),
            "requeue n9,n2");  // nobody knows what to leave out
}

TEST(NextStart, AnotherAllocationLeavesTheHostOutWhereOthersAreUp) {
  const Allocation two = of({"n1", "n2"}, 2);
  EXPECT_EQ(words(fault({"n1", "n2"}), two, {"n1", "n2", "n3", "n4"}), "requeue n9,n1,n2");
  EXPECT_EQ(words(fault({"n1", "n2"}), two, {"n1", "n2", "n3", "n9"}), "requeue n9");
  EXPECT_EQ(words(fault({"n2"}, false), two, {"n1", "n2", "n3", "n4"}), "requeue n9,n2");
  // Another node that fails would leave none to go to, and the fault was lived with.
  EXPECT_EQ(words(fault({"n2"}, false), two, {"n1", "n2", "n3"}), "requeue n9");
  EXPECT_EQ(words(fault({}, false), {{"n1"}, 1, {}}, {"n1", "n2", "n3"}), "requeue -");
}

TEST(NextStart, TheOthers) {
  EXPECT_EQ(words({kExitFinished, "finished"}, of({"n1"}, 1)), "end");
  EXPECT_EQ(words({kExitNoProgress, "no"}, of({"n1"}, 1)), "end");
  EXPECT_EQ(words({kExitUser, "the run belongs to job 7", true}, of({"n1"}, 1)), "leave");
}

TEST(NextStart, NodesThatCanBeHad) {
  EXPECT_THAT(nodes_up("n1 idle a\nn2 mixed a\nn3 mixed* a\nn4 down a\nn5 drained a\n"
                       "n6 allocated a\nn7 idle~ a\nn8 completing a\nn1 idle a\n\nodd\n",
                       {"n1"}),
              ElementsAre("n1", "n2", "n6", "n8"));
  // A job that asks for a kind of node gets no other.
  const std::string mixed = "n1 allocated old\nn2 down* new\nn3 idle new\nn4 idle old\n";
  EXPECT_THAT(nodes_up(mixed, {"n2"}), ElementsAre("n3"));
  EXPECT_THAT(nodes_up(mixed, {"n1", "n2"}), ElementsAre("n1", "n3", "n4"));
  EXPECT_THAT(nodes_up(mixed, {"n9"}), ElementsAre());
}

}  // namespace
}  // namespace svfleet
