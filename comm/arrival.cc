#include "comm/arrival.h"

#include <algorithm>
#include <cstring>
#include <sstream>

#include "comm/wait.h"

namespace svfleet {
namespace {

constexpr int kArriveTag = 1;   // to rank 0: Head, then what
constexpr int kVerdictTag = 2;  // from rank 0: Head, then the reason to stop
constexpr size_t kNamesShown = 16;

enum Verdict : int32_t { kGo, kStay, kStop };

struct Head {
  int64_t sequence;
  int64_t step;
  int32_t verdict;
  int32_t code;
};

std::string pack(const Head& head, std::string_view text) {
  std::string bytes(sizeof head, '\0');
  std::memcpy(bytes.data(), &head, sizeof head);
  return bytes.append(text);
}

Head unpack(const std::string& bytes, std::string* text) {
  Head head;
  SVFLEET_CHECK(bytes.size() >= sizeof head, bytes.size(), " bytes in a control message");
  std::memcpy(&head, bytes.data(), sizeof head);
  *text = bytes.substr(sizeof head);
  return head;
}

std::string of_step(int64_t step) {
  return step < 0 ? "" : " of step " + std::to_string(step);
}

}  // namespace

std::string Arrival::name(int rank) const {
  std::string name = std::to_string(rank);
  if (rank < static_cast<int>(hosts_.size())) name += " (host " + hosts_[rank] + ")";
  return name;
}

void Arrival::meet(std::string_view what, std::string_view op, int64_t step, double timeout_s) {
  ++sequence_;
  if (size_ == 1) return;
  if (rank_ == 0)
    meet_as_rank_0(what, op, step, timeout_s);
  else
    meet_as_other(what, op, step, timeout_s);
}

void Arrival::meet_as_rank_0(std::string_view what, std::string_view op, int64_t step,
                             double timeout_s) {
  std::vector<bool> here(size_, false);
  here[0] = true;
  int missing = size_ - 1;
  const Deadline deadline(timeout_s);
  // Whoever came before rank 0 counts its own time. When the wait gets long it is told to stay,
  // again and again, so that all give up together, with the names of the ranks that are really
  // missing.
  const double stay_s = std::min(1.0, timeout_s / 4);
  Deadline next_look(stay_s);
  Patience patience;
  while (missing > 0) {
    int from = -1, tag = kArriveTag;
    std::string bytes, their_what;
    if (control_.try_receive(&from, &tag, &bytes)) {
      const Head head = unpack(bytes, &their_what);
      if (head.sequence != sequence_ || their_what != what) {
        std::ostringstream why;
        why << "rank " << name(from) << " is in " << their_what << of_step(head.step)
            << " while rank " << name(0) << " is in " << what << of_step(step)
            << ": all ranks must make the same calls in the same order";
        stop_all(kExitInternal, why.str());
      }
      here[from] = true;
      --missing;
      continue;
    }
    if (next_look.passed()) {
      next_look = Deadline(stay_s);
      tell_to_stay(here, step);
      const std::vector<int> gone = deadline.passed() ? lost(here, timeout_s) : std::vector<int>{};
      if (!gone.empty())
        stop_all(kExitRequeue, expiry(timeout_s, op, step) + names_of(gone) + " did not arrive");
    }
    patience.pause();
  }
  for (int rank = 1; rank < size_; ++rank)
    control_.send(rank, kVerdictTag, pack({sequence_, step, kGo, 0}, ""));
}

bool Arrival::moves(int rank, double timeout_s) const {
  return watch_ && watch_->still_s(rank) <= timeout_s;
}

std::vector<int> Arrival::lost(const std::vector<bool>& here, double timeout_s) const {
  std::vector<int> ranks;
  for (int rank = 0; rank < size_; ++rank)
    if (!here[rank] && !moves(rank, timeout_s)) ranks.push_back(rank);
  return ranks;
}

void Arrival::tell_to_stay(const std::vector<bool>& here, int64_t step) {
  for (int rank = 1; rank < size_; ++rank)
    if (here[rank]) control_.send(rank, kVerdictTag, pack({sequence_, step, kStay, 0}, ""));
}

// ": ranks 3 (host n2), 5 (host n3)"
std::string Arrival::names_of(const std::vector<int>& ranks) const {
  std::string names = ranks.size() == 1 ? ": rank " : ": ranks ";
  for (size_t i = 0; i < ranks.size() && i < kNamesShown; ++i)
    names += (i ? ", " : "") + name(ranks[i]);
  if (ranks.size() > kNamesShown)
    names += " and " + std::to_string(ranks.size() - kNamesShown) + " more";
  return names;
}

void Arrival::meet_as_other(std::string_view what, std::string_view op, int64_t step,
                            double timeout_s) {
  control_.send(0, kArriveTag, pack({sequence_, step, kGo, 0}, what));
  Deadline deadline(timeout_s);
  bool rank_0_is_here = false;
  Patience patience;
  while (true) {
    int from = 0, tag = kVerdictTag;
    std::string bytes, reason;
    if (control_.try_receive(&from, &tag, &bytes)) {
      const Head head = unpack(bytes, &reason);
      if (head.verdict == kStop) throw Error(static_cast<ExitCode>(head.code), reason);
      SVFLEET_CHECK(head.sequence == sequence_, "verdict on collective ", head.sequence, " in ",
                    sequence_, ", ", what);
      if (head.verdict == kGo) return;
      rank_0_is_here = true;
      deadline = Deadline(timeout_s + 2);  // rank 0 gives up first
    }
    if (deadline.passed() && (rank_0_is_here || !moves(0, timeout_s)))
      throw Error(kExitRequeue, expiry(deadline.seconds(), op, step) + ": rank " + name(0) +
                                    (rank_0_is_here ? " stopped answering" : " did not arrive"));
    patience.pause();
  }
}

void Arrival::stop_all(ExitCode code, const std::string& why) {
  // Those still under way find it when they come.
  for (int rank = 1; rank < size_; ++rank)
    control_.send(rank, kVerdictTag, pack({sequence_, 0, kStop, code}, why));
  throw Error(code, why);
}

}  // namespace svfleet
