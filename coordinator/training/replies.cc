#include "coordinator/training/replies.h"

#include <string_view>

#include "checkpoints/payload.h"
#include "comm/error.h"

namespace svfleet {

Replies::Replies(std::vector<FinishedReply> restored, int64_t step,
                 std::vector<std::string> z_hashes, Journal* journal)
    : step_(step), z_hashes_(std::move(z_hashes)), journal_(journal) {
  for (FinishedReply& reply : restored) {
    const ReplyPlace place = reply.place;
    restored_.emplace(place, std::move(reply));
  }
}

const FinishedReply* Replies::find(const ReplyPlace& place) const {
  const auto found = restored_.find(place);
  return found == restored_.end() ? nullptr : &found->second;
}

void Replies::keep(const ReplyPlace& place, const Rollout& rollout) const {
  if (!journal_) return;
  FinishedReply reply;
  reply.step = step_;
  reply.place = place;
  reply.z_hash = z_hashes_.at(size_t(place.expert));
  reply.ended = rollout.ended;
  reply.finite = rollout.finite;
  reply.entropy = rollout.entropy;
  reply.tokens = rollout.tokens;
  reply.log_probs = rollout.log_probs;
  reply.text = rollout.text;
  journal_->add(reply);
}

Rollout rollout_of(const FinishedReply& reply) {
  Rollout rollout;
  rollout.sample = reply.place.sample;
  rollout.tokens = reply.tokens;
  rollout.log_probs = reply.log_probs;
  rollout.entropy = reply.entropy;
  rollout.finite = reply.finite;
  rollout.ended = reply.ended;
  rollout.text = reply.text;
  return rollout;
}

std::string packed(const std::vector<FinishedReply>& replies) {
  std::string text;
  for (const FinishedReply& reply : replies) {
    std::string payload;
    append_payload(reply, payload);
    const int64_t head[] = {reply.place.position, reply.place.expert, int64_t(payload.size())};
    put_numbers(text, head, std::size(head));
    text += payload;
  }
  return text;
}

std::vector<FinishedReply> unpacked(const std::string& text) {
  std::vector<FinishedReply> replies;
  std::string_view left = text;
  while (!left.empty()) {
    std::vector<int64_t> head;
    SVFLEET_CHECK(take_numbers(left, 3, head) && head[2] >= 0 && size_t(head[2]) <= left.size(),
                  "packed replies of ", text.size(), " bytes");
    FinishedReply& reply = replies.emplace_back();
    reply.place.position = head[0];
    reply.place.expert = int(head[1]);
    decode_payload(left.substr(0, size_t(head[2])), "a reply from rank 0", reply);
    left.remove_prefix(size_t(head[2]));
  }
  return replies;
}

}  // namespace svfleet
