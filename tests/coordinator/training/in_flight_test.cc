// Pieces in flight together in one worker: each has the bits that it has alone, whatever else its
// engine writes.
#include "coordinator/training/in_flight.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>

#include "cluster/signals.h"
#include "coordinator/training/chunk_tally.h"
#include "tests/coordinator/training/bench.h"

namespace svfleet {
namespace {

constexpr int kPieces = 8;

struct Flown {
  std::map<int, FinishedChunk> chunks;
  int most = 0;  // in flight in one worker
};

// A step of kPieces pieces of `prompts` each, by a crew of `workers`; `spoil` may change a piece's
// work before it is begun.
struct Step {
  Bench bench;
  Policy policy;

  static Config config_of(int workers, int64_t prompts) {
    Config config = Bench::make_config("float32");
    config.workers = workers;
    config.train.prompts_per_chunk = prompts;
    return config;
  }
  explicit Step(int workers = 1, int64_t prompts = 1) : bench(config_of(workers, prompts)) {
    std::vector<float> z = bench.ones();
    for (size_t i = 0; i < z.size(); ++i) z[i] += i % 2 ? 0.02f : -0.02f;
    policy = enforce(bench.base, bench.crew, z, Apply::kMerged);
  }
  ChunkWork work_of(int piece) const {
    return {&policy, bench.plan.rules, piece, bench.plan.prompts(bench.config, 0, piece)};
  }
  FinishedChunk alone(int piece) const {
    return std::move(compute_together(bench.base, {work_of(piece)}).front());
  }
  int64_t rows() const { return bench.config.train.prompts_per_chunk * bench.plan.rules.samples; }

  Flown fly(FlightLimit limit, int pieces = kPieces,
            const std::function<void(ChunkWork&)>& spoil = nullptr) {
    Flown flown;
    std::mutex mutex;
    const Replies replies;
    Handover handover;
    Flight flight{bench.base, replies, handover, limit, rows(), 0, nullptr, nullptr};
    flight.works = [&](int piece) {
      ChunkWork work = work_of(piece);
      if (spoil) spoil(work);
      return std::vector<ChunkWork>{std::move(work)};
    };
    flight.keep = [&](std::vector<FinishedChunk> finished) {
      std::lock_guard lock(mutex);
      for (FinishedChunk& chunk : finished) flown.chunks[chunk.chunk] = std::move(chunk);
    };
    const auto worker = [&](Hand& hand) {
      work_in_flight(hand, flight);
      std::lock_guard lock(mutex);
      flown.most = std::max(flown.most, hand.most());
    };
    std::vector<int> numbers(static_cast<size_t>(pieces));
    std::iota(numbers.begin(), numbers.end(), 0);
    EXPECT_TRUE(bench.crew.share(numbers, "chunks", worker, nullptr));
    return flown;
  }
};

TEST(InFlight, EachPieceHasTheBitsThatItHasAlone) {
  for (const int64_t prompts : {1, 2}) {
    Step step(1, prompts);
    std::vector<FinishedChunk> alone;
    for (int piece = 0; piece < kPieces; ++piece) alone.push_back(step.alone(piece));
    for (const int64_t rows : {1, 4, 16, 256}) {
      const Flown flown = step.fly({rows, 0});
      ASSERT_EQ(flown.chunks.size(), size_t(kPieces));
      for (const FinishedChunk& one : alone) {
        const FinishedChunk& other = flown.chunks.at(one.chunk);
        EXPECT_EQ(one.gradient, other.gradient) << one.chunk << " of " << prompts << ", " << rows;
        EXPECT_EQ(one.counts, other.counts);
        EXPECT_EQ(one.texts, other.texts);
        EXPECT_EQ(one.z_hash, other.z_hash);
      }
      // As many as fit; more come as replies end, so that they may be more than rows / piece.
      EXPECT_GE(flown.most, std::clamp<int64_t>(rows / step.rows(), 1, kPieces)) << rows;
      EXPECT_EQ(flown.most == 1, rows <= step.rows()) << rows;
      EXPECT_EQ(flown.most == kPieces, rows == 256) << rows;
    }
  }
}

// Control: a piece that is drawn by the keys of another is found by what its replies are.
TEST(InFlight, MixedKeysAreAnotherResult) {
  Step step;
  const FinishedChunk right = step.alone(3);
  const Flown mixed = step.fly({256, 0}, kPieces, [](ChunkWork& work) {
    if (work.chunk == 3) work.prompts.front().position += 1;
  });
  EXPECT_GT(mixed.most, 1);
  EXPECT_NE(mixed.chunks.at(3).gradient, right.gradient);
  EXPECT_NE(mixed.chunks.at(3).texts, right.texts);
  EXPECT_EQ(mixed.chunks.at(4).gradient, step.alone(4).gradient);
}

// Control: one that is written by another entry of the table has its receipt against it.
TEST(InFlight, AMixedEntryIsRefused) {
  Step step;
  std::vector<std::vector<float>> z{step.policy.z, step.policy.z};
  for (float& value : z[1]) value += 0.01f;
  std::vector<Policy> policies = enforce_beside(step.bench.base, z);
  step.policy = std::move(policies[0]);
  const Flown flown = step.fly({256, 0}, kPieces, [](ChunkWork& work) {
    if (work.chunk == 5)
      for (ChunkPrompt& prompt : work.prompts) ++prompt.entry;
  });
  EXPECT_GT(flown.most, 1);
  for (const auto& [piece, chunk] : flown.chunks)
    if (piece == 5) {
      EXPECT_THROW(check_receipt(chunk, 0, step.policy.hash), Error);
    } else {
      EXPECT_NO_THROW(check_receipt(chunk, 0, step.policy.hash));
    }
}

TEST(InFlight, OneOfTwoWorkersLeavesTheOtherItsPart) {
  Step step(2);
  EXPECT_EQ(step.fly({256, 0}, 2).most, 1);
  const Flown eight = step.fly({256, 0}, 8);
  EXPECT_GT(eight.most, 1);
  EXPECT_LE(eight.most, 4);
}

TEST(InFlight, KeysAndValuesAreBounded) {
  Step step;
  const int64_t tokens = 1000 + int64_t(step.rows());  // no reply of the bench has so many
  EXPECT_EQ(step.fly({256, 1}).most, 1);
  EXPECT_EQ(step.fly({256, 256 * tokens * bytes_a_token(*step.bench.base.weights)}).most, kPieces);
  EXPECT_EQ(flight_limit(0).rows, kAutoRows);
  EXPECT_EQ(flight_limit(0).bytes, kAutoRowBytes);
  EXPECT_EQ(flight_limit(7).rows, 7);
  EXPECT_EQ(flight_limit(7).bytes, 0);
}

// The second worker's replies are of one token; what it then does is what the first one has
// written.
TEST(InFlight, WhoHasNothingLeftDifferentiatesWhatOthersWrote) {
  Step step(2);
  std::vector<FinishedChunk> alone;
  for (int piece = 0; piece < kPieces; ++piece) alone.push_back(step.alone(piece));
  TaskSpec brief = step.bench.config.tasks.front();
  brief.max_new_tokens = 1;
  std::promise<void> all_taken;
  std::shared_future<void> begin = all_taken.get_future().share();
  std::mutex mutex;
  std::map<int, std::thread::id> writer;
  std::map<int, FinishedChunk> chunks;
  const Replies replies;
  Handover handover;
  Flight flight{step.bench.base, replies, handover, {256, 0}, step.rows(), 0, nullptr, nullptr};
  flight.works = [&](int piece) {
    ChunkWork work = step.work_of(piece);
    size_t begun = 0;
    {
      std::lock_guard lock(mutex);
      writer[piece] = std::this_thread::get_id();
      begun = writer.size();
    }
    if (begun > kPieces / 2)
      for (ChunkPrompt& prompt : work.prompts) prompt.spec = &brief;
    if (begun == kPieces / 2) {
      all_taken.set_value();
      while (handover.alone()) std::this_thread::yield();
    }
    return std::vector<ChunkWork>{std::move(work)};
  };
  std::atomic<int> kept{0}, passed_on{0};
  flight.keep = [&](std::vector<FinishedChunk> finished) {
    std::unique_lock lock(mutex);
    const auto me = std::this_thread::get_id();
    const bool first_worker = me == writer.begin()->second;
    for (const FinishedChunk& chunk : finished) passed_on += writer.at(chunk.chunk) != me;
    lock.unlock();
    // It waits until the other one has nothing left, and then until that one has done something: a
    // thread that is slow to wake may find that what was meant for it is done.
    if (first_worker && ++kept <= 2)
      while (kept == 1 ? handover.wanting() == 0 : passed_on == 0) std::this_thread::yield();
    lock.lock();
    for (FinishedChunk& chunk : finished) chunks[chunk.chunk] = std::move(chunk);
  };
  std::vector<int> numbers(kPieces);
  std::iota(numbers.begin(), numbers.end(), 0);
  std::atomic<int> workers{0};
  const auto worker = [&](Hand& hand) {
    if (workers++ > 0) begin.wait();
    work_in_flight(hand, flight);
  };
  EXPECT_TRUE(step.bench.crew.share(numbers, "chunks", worker, nullptr));
  ASSERT_EQ(chunks.size(), size_t(kPieces));
  EXPECT_GT(passed_on, 0);
  for (int piece = 0; piece < kPieces; ++piece) {
    if (writer.at(piece) != writer.at(0)) continue;  // of one token
    EXPECT_EQ(chunks.at(piece).gradient, alone[size_t(piece)].gradient) << piece;
    EXPECT_EQ(chunks.at(piece).counts, alone[size_t(piece)].counts) << piece;
  }
}

// A worker whose others fail is not left waiting for them.
TEST(InFlight, NobodyWaitsForAWorkerThatFailed) {
  Step step(2);
  const Replies replies;
  Handover handover;
  Flight flight{step.bench.base, replies, handover, {256, 0}, step.rows(), 0, nullptr, nullptr};
  std::atomic<int> begun{0};
  flight.works = [&](int piece) {
    ++begun;
    return std::vector<ChunkWork>{step.work_of(piece)};
  };
  flight.keep = [&](const std::vector<FinishedChunk>&) { throw Error(kExitUser, "no disk"); };
  const auto worker = [&](Hand& hand) { work_in_flight(hand, flight); };
  EXPECT_THROW(step.bench.crew.share({0, 1, 2, 3}, "chunks", worker, nullptr), Error);
  EXPECT_GT(begun, 0);
}

// Of the time that pieces in flight share each has a part: together no more than has passed.
TEST(InFlight, SharedTimeIsCountedOnce) {
  Step step;
  double share = 0;
  // Several times: with other work on the machine, threads may be late to begin.
  for (int attempt = 0; attempt < 10 && share <= 1.0 / 3; ++attempt) {
    const double start_s = steady_clock_s();
    const Flown flown = step.fly({256, 0});
    const double all_s = steady_clock_s() - start_s;
    double chunks_s = 0;
    for (const auto& [piece, chunk] : flown.chunks) {
      const double own_s = unpack({chunk.counts, chunk.sums}).seconds.all();
      EXPECT_GT(own_s, 0) << piece;
      chunks_s += own_s;
    }
    share = chunks_s / all_s;
    EXPECT_LE(share, 1);
  }
  EXPECT_GT(share, 1.0 / 3);
}

// Last: a stop cannot be taken back.
TEST(InFlight, ZAStopLetsNoneBegin) {
  Step step;
  int begun = 0, kept = 0;
  const Replies replies;
  Handover handover;
  Flight flight{step.bench.base, replies, handover, {8, 0}, step.rows(), 0, nullptr, nullptr};
  flight.works = [&](int piece) {
    ++begun;
    return std::vector<ChunkWork>{step.work_of(piece)};
  };
  flight.keep = [&](const std::vector<FinishedChunk>&) {
    if (++kept == 2) request_stop();
  };
  std::vector<int> numbers(kPieces);
  std::iota(numbers.begin(), numbers.end(), 0);
  int at_stop = 0;
  const auto worker = [&](Hand& hand) {
    try {
      work_in_flight(hand, flight);
    } catch (const StopWork&) {
      at_stop = hand.size();
      throw;
    }
  };
  EXPECT_FALSE(step.bench.crew.share(numbers, "chunks", worker, nullptr));
  EXPECT_EQ(kept, 2);
  EXPECT_EQ(begun, kept + at_stop);
  EXPECT_LT(begun, kPieces);
}

}  // namespace
}  // namespace svfleet
