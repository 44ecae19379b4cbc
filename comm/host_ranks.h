// The ranks of one host, and bytes that they give each other by messages: what one of them has
// made, the others need not make too.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "comm/group.h"

namespace svfleet {

class HostRanks {
 public:
  // The ranks of `group`, which must stay, that have this rank's host. `hosts`: by rank, equal on
  // all ranks. Nobody else reads the group's host_mail().
  HostRanks(Group& group, const std::vector<std::string>& hosts, double timeout_s);

  // Of the group, ascending; this one is among them.
  const std::vector<int>& ranks() const { return ranks_; }
  int place() const { return place_; }  // of this rank among them
  int count() const { return int(ranks_.size()); }
  // Whether any host of the group has several: the same on all ranks.
  bool any_shared() const { return any_shared_; }

  // Collective over the ranks of this host, in the main thread. `bytes` of the rank at `place`
  // reach the others in pieces of 16 MiB, so that no more than one for each of them is on its way.
  // Who does not send or take one within the timeout is named in an Error(kExitRequeue); another
  // `op` elsewhere is an Error(kExitInternal). After an Error no other broadcast can be made; after
  // a std::bad_alloc, where there is no room for the bytes, they have been received and lost.
  void broadcast(std::string& bytes, int place, std::string_view op);

 private:
  void send(std::string_view bytes, std::string_view op);
  void receive(std::string& bytes, int rank, std::string_view op);
  std::string next_message(int rank, std::string_view op);
  void wait_until_taken(std::string_view op);

  Group& group_;
  const double timeout_s_;
  std::vector<int> ranks_;
  int place_ = 0;
  bool any_shared_ = false;
};

}  // namespace svfleet
