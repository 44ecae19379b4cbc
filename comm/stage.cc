#include "comm/stage.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace svfleet {
namespace {

thread_local std::span<StageCounter* const> counters_here;
std::atomic<uint64_t> seen[kStages];  // as stages_seen() tells it

}  // namespace

const char* name_of(Stage stage) {
  switch (stage) {
    case Stage::kWaiting:
      return "waiting";
    case Stage::kStep:
      return "the run's own thread";
    case Stage::kTelling:
      return "telling how it goes";
    case Stage::kDisk:
      return "reading or writing a file";
    case Stage::kHash:
      return "hashing";
    case Stage::kLoad:
      return "loading a tensor";
    case Stage::kMerge:
      return "merging a matrix";
    case Stage::kToken:
      return "a token";
    case Stage::kLayer:
      return "a layer";
    case Stage::kScore:
      return "scoring a reply";
    case Stage::kHead:
      return "the scores of the vocabulary";
    case Stage::kBackward:
      return "a layer's backward pass";
    case Stage::kCollect:
      return "collecting the gradient";
    case Stage::kGram:
      return "a Gram matrix";
    case Stage::kEigen:
      return "an eigensolver";
    case Stage::kCheck:
      return "the check of a decomposition";
    case Stage::kCertify:
      return "the certificate of a decomposition";
    default:
      return "its work";
  }
}

StageClass stage_class(Stage stage, double work) {
  return {stage, uint8_t(std::clamp(work >= 1 ? std::ilogb(work) : 0, 0, 63))};
}

void StageCounter::enter(StageClass next) {
  const uint64_t before = value();
  const StageClass left = class_of(before);
  const uint64_t bit = uint64_t{1} << left.size;
  std::atomic<uint64_t>& of_stage = seen[int(left.stage)];
  if (!(of_stage.load(std::memory_order_relaxed) & bit)) of_stage |= bit;
  value_.store(((before >> 16) + 1) << 16 | uint64_t{next.size} << 8 | uint8_t(next.stage),
               std::memory_order_relaxed);
}

std::array<uint64_t, kStages> stages_seen() {
  std::array<uint64_t, kStages> all;
  for (int i = 0; i < kStages; ++i) all[i] = seen[i];
  return all;
}

StageCounter* stage_counter() {
  return counters_here.empty() ? nullptr : counters_here.front();
}

Counted::Counted(StageCounter* counter)
    : Counted(counter ? std::vector{counter} : std::vector<StageCounter*>()) {}

Counted::Counted(std::vector<StageCounter*> counters)
    : counters_(std::move(counters)), before_(counters_here) {
  counters_here = counters_;
}

Counted::~Counted() {
  counters_here = before_;
}

void enter(Stage stage, double work) {
  for (StageCounter* const counter : counters_here) counter->enter(stage_class(stage, work));
}

InStage::InStage(Stage stage, double work) : counters_(counters_here) {
  if (counters_.empty()) return;
  before_ = StageCounter::class_of(counters_.front()->value());
  for (StageCounter* const counter : counters_) counter->enter(stage_class(stage, work));
}

InStage::~InStage() {
  for (StageCounter* const counter : counters_) counter->enter(before_);
}

}  // namespace svfleet
