// Finished replies of the step at hand: those that an earlier process left, which are not sampled
// again, and those that are kept as they end.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoints/journal.h"
#include "worker/model/engine.h"

namespace svfleet {

class Replies {
 public:
  Replies() = default;  // none, and kept nowhere
  // `restored`: of this step and these policies; `z_hashes`: by the expert's number; `journal` must
  // stay.
  Replies(std::vector<FinishedReply> restored, int64_t step, std::vector<std::string> z_hashes,
          Journal* journal);

  // Nothing where it must be sampled.
  const FinishedReply* find(const ReplyPlace& place) const;
  // Any thread.
  void keep(const ReplyPlace& place, const Rollout& rollout) const;

 private:
  std::map<ReplyPlace, FinishedReply> restored_;
  int64_t step_ = 0;
  std::vector<std::string> z_hashes_;
  Journal* journal_ = nullptr;
};

Rollout rollout_of(const FinishedReply& reply);

// For other ranks, in one text.
std::string packed(const std::vector<FinishedReply>& replies);
std::vector<FinishedReply> unpacked(const std::string& text);

}  // namespace svfleet
