// How the end of shared work is agreed on: a fault of one rank ends all, with the same error on
// each, so that whoever can still write reports it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/error.h"
#include "comm/group.h"

namespace svfleet {

// Thrown alike by every rank of a group.
class AgreedError : public Error {
 public:
  AgreedError(ExitCode code, const std::string& message, std::vector<std::string> hosts,
              std::string place = "")
      : Error(code, message, !hosts.empty()), hosts_(std::move(hosts)), place_(std::move(place)) {}
  // Whose own fault it is; empty: no machine's.
  const std::vector<std::string>& hosts() const { return hosts_; }
  // "step 12, chunk 5" of a failure that may be a bug of ours (Failure::maybe_ours), else empty.
  const std::string& place() const { return place_; }

 private:
  std::vector<std::string> hosts_;
  std::string place_;
};

// What one rank says at the end of shared work.
struct Part {
  bool stop = false;      // it was asked to stop
  bool did_some = false;  // it finished a piece
  std::optional<Failure> failure;
  std::string place;  // of the failure
};

// What all end with: the gravest failure, and the hosts of all whose fault is their own. Nothing
// when none has failed. `names` are those of Group::name, all by rank. What a person would have to
// mend if all ranks met it (kExitUser), a rank's own fault as far as its code tells, is its disk's
// when another host has done such work: kExitDisk.
std::optional<AgreedError> verdict(const std::vector<Part>& parts,
                                   const std::vector<std::string>& names,
                                   const std::vector<std::string>& hosts);

// Collective. Whether any rank was asked to stop; throws the verdict. `hosts` by rank.
bool end_together(Group& group, const std::vector<std::string>& hosts, const Part& mine,
                  const std::string& op);

// Ranks whose value is not that of more than half of them; nothing when no value has so many.
std::optional<std::vector<int>> minority(const std::vector<std::string>& values);

}  // namespace svfleet
