// An allocation's end is kept to the chunk: by a clock that the test turns.
#include "coordinator/crew/crew.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <ctime>
#include <numeric>

#include "tests/worker/model/fixtures.h"

namespace svfleet {
namespace {

TEST(Crew, StartsNoPieceOnceTheTimeIsShort) {
  setenv("SLURM_JOB_ID", "4711", 1);
  setenv("SLURM_JOB_END_TIME", std::to_string(std::time(nullptr) + 1000).c_str(), 1);
  Config config;
  config.model.path = tiny_folder("tiny_llama_plain");
  config.workers = 1;
  std::atomic<double> now = 0;
  Crew crew(config, [&] { return now.load(); });

  std::vector<int> pieces(60);
  std::iota(pieces.begin(), pieces.end(), 0);
  int64_t done = 0;
  const auto count = [&](int) { ++done; };
  EXPECT_TRUE(crew.share(pieces, "control", count, nullptr)) << "an hour is long enough";
  int64_t all[1] = {done};
  crew.group().all_reduce_sum(all, "count");
  EXPECT_EQ(all[0], 60);

  // On the last rank it gets late when it holds two pieces. It finishes them, and they are its
  // last.
  done = 0;
  const bool late = crew.group().rank() == crew.ranks() - 1;
  const auto worker = [&](Hand& hand) {
    for (auto piece = hand.take(); piece; piece = hand.take()) {
      const auto second = hand.take();
      if (late) now = 980;
      EXPECT_FALSE(late && hand.take());
      std::this_thread::sleep_for(std::chrono::milliseconds(late ? 300 : 100));
      for (const auto& one : {piece, second})
        if (one) hand.finished(*one), ++done;
    }
  };
  EXPECT_FALSE(crew.share(pieces, "chunks", worker, nullptr));
  EXPECT_TRUE(crew.time_was_short() || !late);
  if (late) {
    EXPECT_EQ(done, 2);
  } else {
    EXPECT_LT(done, 60);
  }

  done = 0;
  EXPECT_FALSE(crew.share(pieces, "chunks", count, nullptr)) << "nor in the next round";
  EXPECT_EQ(done, 0);
}

}  // namespace
}  // namespace svfleet
