// RUN/alive.json: a sign of life every few seconds and as soon as something else is being done,
// with what the run is doing, for people who look at it from another machine (`svfleet status`) and
// for the ledger of a run that was killed.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/chunk_queue.h"

namespace svfleet {

inline constexpr double kPulseSeconds = 5;

struct SignOfLife {
  double time_s = 0;  // since 1970, by the writer's clock
  std::string host, job;
  int64_t pid = 0, restarts = 0;
  std::string doing;  // "loading", "chunks of step 12", ...
  double doing_since_s = 0;
  int64_t step = -1, steps = 0;             // finished, of
  int64_t chunks = 0, chunks_per_step = 0;  // finished ones of the step after it
  double steps_per_s = 0;                   // of this process; 0 = not known yet
  std::vector<Holding> out;                 // chunks being computed
};

// The newest one; nothing when there is none or it is broken.
std::optional<SignOfLife> last_sign_of_life(const std::string& run_dir);

// Rank 0's thread that gives the signs. Members are thread-safe.
class Pulse {
 public:
  // `still_ours` throws when the run folder has another writer: then nothing more is written.
  Pulse(std::string run_dir, SignOfLife start, std::function<void()> still_ours,
        double every_s = kPulseSeconds);
  ~Pulse();  // a last sign
  Pulse(const Pulse&) = delete;

  void doing(const std::string& what);
  void at(int64_t step, int64_t steps, int64_t chunks, int64_t chunks_per_step);
  void out(std::vector<Holding> holdings);

 private:
  void give();
  const std::string path_;
  const std::function<void()> still_ours_;
  std::mutex mutex_;
  std::condition_variable changed_;
  SignOfLife sign_;
  bool over_ = false;
  bool news_ = false;   // something else is being done since the last sign
  double first_s_ = 0;  // when the first step of this process began
  int64_t first_step_ = -1;
  std::thread thread_;
};

}  // namespace svfleet
