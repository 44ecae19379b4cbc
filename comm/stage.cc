#include "comm/stage.h"

#include <algorithm>
#include <cmath>

namespace svfleet {
namespace {

thread_local StageCounter* counter_here = nullptr;
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
  return counter_here;
}

Counted::Counted(StageCounter* counter) : before_(counter_here) {
  counter_here = counter;
}

Counted::~Counted() {
  counter_here = before_;
}

void enter(Stage stage, double work) {
  if (counter_here) counter_here->enter(stage_class(stage, work));
}

InStage::InStage(Stage stage, double work) : counter_(counter_here) {
  if (!counter_) return;
  before_ = StageCounter::class_of(counter_->value());
  counter_->enter(stage_class(stage, work));
}

InStage::~InStage() {
  if (counter_) counter_->enter(before_);
}

}  // namespace svfleet
