#include "checkpoints/finished_reply.h"

#include "checkpoints/payload.h"
#include "comm/error.h"

namespace svfleet {

void append_payload(const FinishedReply& reply, std::string& bytes) {
  const uint64_t head[] = {reply.tokens.size(), reply.text.size(),
                           uint64_t(reply.place.member) << 32 | uint64_t(reply.place.sample),
                           uint64_t(reply.ended) | uint64_t(reply.finite) << 1,
                           std::bit_cast<uint64_t>(reply.entropy)};
  SVFLEET_CHECK(reply.tokens.size() == reply.log_probs.size(), reply.log_probs.size());
  put_numbers(bytes, head, std::size(head));
  put_numbers(bytes, reply.tokens.data(), reply.tokens.size());
  put_numbers(bytes, reply.log_probs.data(), reply.log_probs.size());
  bytes += reply.text;
}

void decode_payload(std::string_view bytes, const std::string& origin, FinishedReply& reply) {
  std::vector<uint64_t> head;
  if (!take_numbers(bytes, 5, head) || (head[2] >> 32) > INT32_MAX ||
      (head[2] & UINT32_MAX) > INT32_MAX || head[3] > 3 ||
      !take_numbers(bytes, head[0], reply.tokens) ||
      !take_numbers(bytes, head[0], reply.log_probs) || !take_numbers(bytes, head[1], reply.text) ||
      !bytes.empty())
    throw disk_error(origin, " is damaged: its lengths do not fit");
  reply.place.member = int(head[2] >> 32);
  reply.place.sample = int(head[2] & UINT32_MAX);
  reply.ended = head[3] & 1;
  reply.finite = head[3] >> 1;
  reply.entropy = std::bit_cast<double>(head[4]);
}

}  // namespace svfleet
