// What a thread is at. Work goes in stages (a token, a layer, an eigensolver, a file), and a
// counter moves with each, so that whoever waits can tell slow from stuck. Rooms that work call
// enter(); who counts, and what comes of it, is comm/watch.h's.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace svfleet {

// Kinds of stage.
enum class Stage : uint8_t {
  kUnknown,  // nothing is known of it, so nothing can be expected
  kWaiting,  // for other ranks or threads
  kStep,     // a command's own thread, between the others
  kTelling,
  kDisk,
  kHash,
  kLoad,
  kMerge,
  kToken,
  kLayer,
  kScore,
  kHead,
  kBackward,
  kCollect,
  kGram,
  kEigen,
  kCheck,
  kCertify,
  kCount
};
inline constexpr int kStages = int(Stage::kCount);

// A stage with the size of its work, in powers of two: stages of one class take about as long, and
// what one may take is learnt by class.
struct StageClass {
  Stage stage = Stage::kUnknown;
  uint8_t size = 0;  // below 64
  bool operator==(const StageClass&) const = default;
  int index() const { return int(stage) * 64 + size; }  // below kStages * 64
};
const char* name_of(Stage stage);  // "a layer's backward pass": for messages

// How many stages a piece of work has entered, and which is the last. Any thread may do anything:
// where several count on one, it moves as long as any of them does.
class StageCounter {
 public:
  void enter(StageClass next);
  // Another value than before: the work has moved.
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }
  static StageClass class_of(uint64_t value) {
    return {Stage(value & 0xff), uint8_t(value >> 8 & 0xff)};
  }

 private:
  std::atomic<uint64_t> value_{0};  // the count, the size and the stage: 48, 8 and 8 bits
};

// By stage, bit i for size i: what this process has been through to its end.
std::array<uint64_t, kStages> stages_seen();

// The counter of the calling thread, of several the first; nullptr where nobody counts.
StageCounter* stage_counter();

// While it lives, what the calling thread enters is counted on `counter` (nullptr: nowhere), or on
// each of several, where a stage is the work of all of them.
class Counted {
 public:
  explicit Counted(StageCounter* counter);
  explicit Counted(std::vector<StageCounter*> counters);
  ~Counted();
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  const std::vector<StageCounter*> counters_;
  const std::span<StageCounter* const> before_;
};

// The calling thread begins the next stage, and so ends the one before. `work`: how much there is
// to do, in any unit that suits the stage, where that differs from time to time.
void enter(Stage stage, double work = 1);
StageClass stage_class(Stage stage, double work = 1);

// A stage inside another one, which goes on afterwards.
class InStage {
 public:
  explicit InStage(Stage stage, double work = 1);
  ~InStage();
  InStage(const InStage&) = delete;
  InStage& operator=(const InStage&) = delete;

 private:
  const std::span<StageCounter* const> counters_;
  StageClass before_;
};

}  // namespace svfleet
