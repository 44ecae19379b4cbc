// Before a collective starts, all ranks meet: each tells rank 0 which collective it has reached,
// and rank 0 says go. So a rank that is missing, or is somewhere else, is known by name, and the
// collective itself starts only when everyone is in it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "comm/error.h"
#include "comm/group.h"
#include "comm/watch.h"

namespace svfleet {

class Arrival {
 public:
  // `control` carries nothing else with the tags 1 and 2. Hosts by rank; may be empty at first.
  Arrival(Mailbox& control, int rank, int size) : control_(control), rank_(rank), size_(size) {}

  void set_hosts(std::vector<std::string> hosts) { hosts_ = std::move(hosts); }
  // From here on a rank that moves is not missing.
  void set_watch(const Watch* watch) { watch_ = watch; }

  // Collective. `what` names the operation, its kind and its size: it must be equal on all ranks
  // (else kExitInternal on all of them). Throws kExitRequeue when a rank has not come after the
  // timeout and has not moved for as long.
  void meet(std::string_view what, std::string_view op, int64_t step, double timeout_s);

  std::string name(int rank) const;  // "3 (host n2)"

 private:
  void meet_as_rank_0(std::string_view what, std::string_view op, int64_t step, double timeout_s);
  void meet_as_other(std::string_view what, std::string_view op, int64_t step, double timeout_s);
  bool moves(int rank, double timeout_s) const;
  std::vector<int> lost(const std::vector<bool>& here, double timeout_s) const;
  std::string names_of(const std::vector<int>& ranks) const;
  void tell_to_stay(const std::vector<bool>& here, int64_t step);
  [[noreturn]] void stop_all(ExitCode code, const std::string& why);

  Mailbox& control_;
  int rank_;
  int size_;
  std::vector<std::string> hosts_;
  const Watch* watch_ = nullptr;
  int64_t sequence_ = 0;  // of the collective; equal on all ranks
};

}  // namespace svfleet
