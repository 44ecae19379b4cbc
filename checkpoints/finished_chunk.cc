#include "checkpoints/finished_chunk.h"

#include "checkpoints/payload.h"
#include "comm/error.h"

namespace svfleet {

void append_payload(const FinishedChunk& chunk, std::string& bytes) {
  const uint64_t lengths[6] = {chunk.gradient.size(),   chunk.counts.size(),
                               chunk.sums.size(),       chunk.texts.size(),
                               uint64_t(chunk.prompts), uint64_t(chunk.groups)};
  bytes.reserve(bytes.size() + sizeof lengths + 4 * lengths[0] + 8 * lengths[1] + 8 * lengths[2] +
                lengths[3]);
  put_numbers(bytes, lengths, 6);
  put_numbers(bytes, chunk.gradient.data(), lengths[0]);
  put_numbers(bytes, chunk.counts.data(), lengths[1]);
  put_numbers(bytes, chunk.sums.data(), lengths[2]);
  put_numbers(bytes, chunk.texts.data(), lengths[3]);
}

void decode_payload(std::string_view bytes, const std::string& origin, FinishedChunk& chunk) {
  std::vector<uint64_t> lengths;
  if (!take_numbers(bytes, 6, lengths) || !take_numbers(bytes, lengths[0], chunk.gradient) ||
      !take_numbers(bytes, lengths[1], chunk.counts) ||
      !take_numbers(bytes, lengths[2], chunk.sums) ||
      !take_numbers(bytes, lengths[3], chunk.texts) || !bytes.empty())
    throw disk_error(origin, " is damaged: its lengths do not fit");
  chunk.prompts = int64_t(lengths[4]);
  chunk.groups = int64_t(lengths[5]);
  if (chunk.groups ? chunk.gradient.size() % uint64_t(chunk.groups) != 0 : !chunk.gradient.empty())
    throw disk_error(origin, " is damaged: its groups do not fit");
}

}  // namespace svfleet
