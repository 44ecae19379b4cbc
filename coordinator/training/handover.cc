#include "coordinator/training/handover.h"

#include <utility>

namespace svfleet {

Handover::Presence::Presence(Handover& handover) : handover_(handover) {
  std::lock_guard lock(handover_.mutex_);
  ++handover_.present_;
}

Handover::Presence::~Presence() {
  std::lock_guard lock(handover_.mutex_);
  --handover_.present_;
  handover_.changed_.notify_all();
}

bool Handover::alone() const {
  std::lock_guard lock(mutex_);
  return present_ == 1;
}

bool Handover::wanted() const {
  std::lock_guard lock(mutex_);
  return !over_ && waiting_ > int(given_.size());
}

void Handover::give(Parcel parcel) {
  std::lock_guard lock(mutex_);
  given_.push_back(std::move(parcel));
  changed_.notify_all();
}

std::optional<Handover::Parcel> Handover::wait() {
  std::unique_lock lock(mutex_);
  ++waiting_;
  changed_.notify_all();  // it may have been the last one that could give
  changed_.wait(lock, [&] { return over_ || !given_.empty() || waiting_ == present_; });
  --waiting_;
  if (given_.empty()) {
    over_ = true;
    return std::nullopt;
  }
  Parcel parcel = std::move(given_.front());
  given_.pop_front();
  return parcel;
}

}  // namespace svfleet
