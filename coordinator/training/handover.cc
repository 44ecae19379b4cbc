#include "coordinator/training/handover.h"

#include <utility>

#include "worker/kernels/team.h"

namespace svfleet {

Handover::Presence::Presence(Handover& handover) : handover_(handover) {
  std::lock_guard lock(handover_.mutex_);
  ++handover_.present_;
}

Handover::Presence::~Presence() {
  {
    std::lock_guard lock(handover_.mutex_);
    --handover_.present_;
  }
  look_again();
}

bool Handover::alone() const {
  std::lock_guard lock(mutex_);
  return present_ == 1;
}

int Handover::wanting_here() const {
  return over_ ? 0 : waiting_ - int(given_.size()) - promised_;
}

int Handover::wanting() const {
  std::lock_guard lock(mutex_);
  return wanting_here();
}

bool Handover::promise() {
  std::lock_guard lock(mutex_);
  if (wanting_here() <= 0) return false;
  ++promised_;
  given_.reserve(given_.size() + size_t(promised_));  // here, where nothing is lost by an exception
  return true;
}

void Handover::give(Parcel parcel) {
  {
    std::lock_guard lock(mutex_);
    --promised_;
    given_.push_back(std::move(parcel));
  }
  look_again();
}

std::optional<Handover::Parcel> Handover::wait() {
  {
    std::lock_guard lock(mutex_);
    ++waiting_;
  }
  look_again();  // it may have been the last one that could give
  std::optional<Parcel> parcel;
  const auto found = [&] {
    std::lock_guard lock(mutex_);
    if (!given_.empty()) {
      parcel = std::move(given_.front());
      given_.erase(given_.begin());
    } else {
      over_ = over_ || waiting_ == present_;
    }
    if (!parcel && !over_) return false;
    --waiting_;
    return true;
  };
  help_until(found);
  return parcel;
}

}  // namespace svfleet
