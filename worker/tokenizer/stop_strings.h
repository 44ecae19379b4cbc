// Ends a reply at the first stop string, while it is still growing. One reply, one thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

class StopMatcher {
 public:
  // Error(kExitUser) where a stop string is empty. No strings: never stops, holds nothing back.
  explicit StopMatcher(std::vector<std::string> strings);

  // Takes what the reply grew by and returns what may be shown: nothing of a stop string, nor text
  // that may be the beginning of one. How the reply is cut into pushes changes only how much is
  // held back. Nothing comes after a stop.
  std::string push(std::string_view text);
  // The reply ended without a stop string: what was held back.
  std::string finish();

  bool stopped() const { return stopped_; }
  // Bytes of the whole reply that stand before the stop string that was completed first; where two
  // are completed by the same byte, before the longer one. All bytes while there is none.
  size_t cut() const { return stopped_ ? cut_ : shown_ + held_.size(); }

 private:
  std::vector<std::string> strings_;
  std::string held_;
  size_t shown_ = 0;
  size_t cut_ = 0;
  bool stopped_ = false;
};

}  // namespace svfleet
