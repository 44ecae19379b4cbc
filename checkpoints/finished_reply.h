// A finished reply of a chunk that is not finished yet, and the bytes that the journal keeps of it.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

// Which reply of a step it is.
struct ReplyPlace {
  int64_t position = 0;  // of its prompt, in the keyed order: what chunks are cut from
  int member = 0;        // of the population whose reply it is; 0 where there is none
  int sample = 0;
  int expert = 0;  // whose, of several that are trained together: its number
  auto operator<=>(const ReplyPlace&) const = default;
};

struct FinishedReply {
  int64_t step = 0;  // steps finished before it
  ReplyPlace place;
  std::string z_hash;  // of the policy that gave it, or round which its population is
  bool ended = false, finite = true;
  double entropy = 0;
  std::vector<int> tokens;
  std::vector<float> log_probs;
  std::string text;
};

// Appends all but step, position, expert and z_hash, which stand in the frame (frame.h).
void append_payload(const FinishedReply& reply, std::string& bytes);
// Error(kExitDisk), naming `origin`, when these bytes are no payload.
void decode_payload(std::string_view bytes, const std::string& origin, FinishedReply& reply);

}  // namespace svfleet
