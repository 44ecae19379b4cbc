#include "comm/host_ranks.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>

#include "comm/error.h"
#include "comm/stage.h"
#include "comm/wait.h"

namespace svfleet {
namespace {

constexpr size_t kPieceBytes = size_t{16} << 20;
constexpr int kTag = 1;                 // the mail carries nothing else
constexpr double kLongestSleep = 1e-4;  // all are here: look often

}  // namespace

HostRanks::HostRanks(Group& group, const std::vector<std::string>& hosts, double timeout_s)
    : group_(group), timeout_s_(timeout_s) {
  SVFLEET_CHECK(int(hosts.size()) == group.size(), hosts.size(), " hosts of ", group.size());
  for (int rank = 0; rank < group.size(); ++rank) {
    if (rank == group.rank()) place_ = int(ranks_.size());
    if (hosts[size_t(rank)] == hosts[size_t(group.rank())]) ranks_.push_back(rank);
  }
  std::vector<std::string> sorted = hosts;
  std::sort(sorted.begin(), sorted.end());
  any_shared_ = std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
}

void HostRanks::broadcast(std::string& bytes, int place, std::string_view op) {
  SVFLEET_CHECK(place >= 0 && place < count(), "place ", place, " of ", count(), " in '", op, "'");
  if (count() == 1) return;
  const InStage waiting(Stage::kWaiting);
  if (place == place_)
    send(bytes, op);
  else
    receive(bytes, ranks_[size_t(place)], op);
}

// First the length and what it is of, then the pieces: messages between two ranks keep their order.
void HostRanks::send(std::string_view bytes, std::string_view op) {
  const auto to_all = [&](std::string_view message) {
    for (const int rank : ranks_)
      if (rank != group_.rank()) group_.host_mail().send(rank, kTag, message);
    wait_until_taken(op);
  };
  const int64_t length = int64_t(bytes.size());
  std::string head(reinterpret_cast<const char*>(&length), sizeof length);
  to_all(head.append(op));
  for (size_t at = 0; at < bytes.size(); at += kPieceBytes) to_all(bytes.substr(at, kPieceBytes));
}

void HostRanks::receive(std::string& bytes, int rank, std::string_view op) {
  const std::string head = next_message(rank, op);
  int64_t length = 0;
  SVFLEET_CHECK(head.size() >= sizeof length, head.size(), " bytes of a head in '", op, "'");
  std::memcpy(&length, head.data(), sizeof length);
  const std::string theirs = head.substr(sizeof length);
  SVFLEET_CHECK(theirs == op, "rank ", group_.name(rank), " is in '", theirs, "' while rank ",
                group_.name(group_.rank()), " is in '", op, "'");
  bytes.clear();
  std::exception_ptr no_room;  // what was sent is received all the same: others wait for that
  try {
    bytes.reserve(size_t(length));
  } catch (const std::bad_alloc&) {
    no_room = std::current_exception();
  }
  int64_t received = 0;
  while (received < length) {
    const std::string piece = next_message(rank, op);
    received += int64_t(piece.size());
    if (!no_room) bytes += piece;
  }
  if (no_room) std::rethrow_exception(no_room);
  SVFLEET_CHECK(received == length, received, " bytes of ", length);
}

std::string HostRanks::next_message(int rank, std::string_view op) {
  const Deadline deadline(timeout_s_);
  Patience patience(kLongestSleep);
  std::string message;
  int tag = kTag;
  while (!group_.host_mail().try_receive(&rank, &tag, &message)) {
    if (deadline.passed())
      throw Error(kExitRequeue, expiry(timeout_s_, op, group_.step()) + ": rank " +
                                    group_.name(rank) + " did not send it to rank " +
                                    group_.name(group_.rank()));
    patience.pause();
  }
  return message;
}

void HostRanks::wait_until_taken(std::string_view op) {
  const Deadline deadline(timeout_s_);
  Patience patience(kLongestSleep);
  for (std::vector<int> left; !(left = group_.host_mail().untaken()).empty(); patience.pause()) {
    if (!deadline.passed()) continue;
    std::string names;
    for (const int rank : left) names += (names.empty() ? "" : ", ") + group_.name(rank);
    throw Error(kExitRequeue, expiry(timeout_s_, op, group_.step()) +
                                  (left.size() == 1 ? ": rank " : ": ranks ") + names +
                                  " did not take it from rank " + group_.name(group_.rank()));
  }
}

}  // namespace svfleet
