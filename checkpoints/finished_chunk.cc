#include "checkpoints/finished_chunk.h"

#include <bit>
#include <cstring>

#include "comm/error.h"

namespace svfleet {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian");

template <class T>
void put(std::string& bytes, const T* values, size_t count) {
  if (count > 0) bytes.append(reinterpret_cast<const char*>(values), count * sizeof(T));
}

// Takes them from the front; false when there are not so many.
template <class Values>
bool take(std::string_view& bytes, uint64_t count, Values& values) {
  const size_t each = sizeof(values[0]);
  if (count > bytes.size() / each) return false;
  values.resize(count);
  if (count > 0) std::memcpy(values.data(), bytes.data(), count * each);
  bytes.remove_prefix(count * each);
  return true;
}

}  // namespace

void append_payload(const FinishedChunk& chunk, std::string& bytes) {
  const uint64_t lengths[6] = {chunk.gradient.size(),   chunk.counts.size(),
                               chunk.sums.size(),       chunk.texts.size(),
                               uint64_t(chunk.prompts), uint64_t(chunk.groups)};
  bytes.reserve(bytes.size() + sizeof lengths + 4 * lengths[0] + 8 * lengths[1] + 8 * lengths[2] +
                lengths[3]);
  put(bytes, lengths, 6);
  put(bytes, chunk.gradient.data(), lengths[0]);
  put(bytes, chunk.counts.data(), lengths[1]);
  put(bytes, chunk.sums.data(), lengths[2]);
  put(bytes, chunk.texts.data(), lengths[3]);
}

void decode_payload(std::string_view bytes, const std::string& origin, FinishedChunk& chunk) {
  std::vector<uint64_t> lengths;
  if (!take(bytes, 6, lengths) || !take(bytes, lengths[0], chunk.gradient) ||
      !take(bytes, lengths[1], chunk.counts) || !take(bytes, lengths[2], chunk.sums) ||
      !take(bytes, lengths[3], chunk.texts) || !bytes.empty())
    throw disk_error(origin, " is damaged: its lengths do not fit");
  chunk.prompts = int64_t(lengths[4]);
  chunk.groups = int64_t(lengths[5]);
  if (chunk.groups ? chunk.gradient.size() % uint64_t(chunk.groups) != 0 : !chunk.gradient.empty())
    throw disk_error(origin, " is damaged: its groups do not fit");
}

}  // namespace svfleet
