// A stop that comes when nothing is left to do costs no result.
#include <gtest/gtest.h>

#include "cluster/signals.h"
#include "coordinator/crew/crew.h"
#include "tests/worker/model/fixtures.h"

namespace svfleet {
namespace {

TEST(Crew, AStopInTheLastPieceStopsWhatIsNext) {
  Config config;
  config.model.path = tiny_folder("tiny_llama_plain");
  config.workers = 1;
  Crew crew(config);
  const auto stopped = crew.collect({"evaluate", "evaluate", "items", 1, 1}, [](int64_t, int64_t) {
    request_stop();  // as by a signal, in the middle of it
    return std::string("its result");
  });
  ASSERT_TRUE(stopped.has_value());
  if (crew.leads()) {
    EXPECT_EQ(*stopped, std::vector<std::string>{"its result"});
  }

  request_stop();
  EXPECT_FALSE(crew.collect({"evaluate", "evaluate", "items", 60, 1},
                            [](int64_t, int64_t) { return std::string("never"); }));
}

}  // namespace
}  // namespace svfleet
