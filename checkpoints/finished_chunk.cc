#include "checkpoints/finished_chunk.h"

#include <bit>
#include <cstring>

#include "checkpoints/hdf5_image.h"
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
  const uint64_t lengths[4] = {chunk.gradient.size(), chunk.counts.size(), chunk.sums.size(),
                               chunk.texts.size()};
  bytes.reserve(bytes.size() + sizeof lengths + 4 * lengths[0] + 8 * lengths[1] + 8 * lengths[2] +
                lengths[3]);
  put(bytes, lengths, 4);
  put(bytes, chunk.gradient.data(), lengths[0]);
  put(bytes, chunk.counts.data(), lengths[1]);
  put(bytes, chunk.sums.data(), lengths[2]);
  put(bytes, chunk.texts.data(), lengths[3]);
}

void decode_payload(std::string_view bytes, const std::string& origin, FinishedChunk& chunk) {
  std::vector<uint64_t> lengths;
  if (!take(bytes, 4, lengths) || !take(bytes, lengths[0], chunk.gradient) ||
      !take(bytes, lengths[1], chunk.counts) || !take(bytes, lengths[2], chunk.sums) ||
      !take(bytes, lengths[3], chunk.texts) || !bytes.empty())
    throw disk_error(origin, " is damaged: its lengths do not fit");
}

FinishedChunk decode_chunk_file(std::string image, const std::string& origin) {
  const Hdf5Reader in(std::move(image), origin);
  const int64_t version =
      in.has("format") && in.text("format") == "svfleet-chunk" ? in.integer("version") : 0;
  if (version != 1 && version != 2)
    throw disk_error("'", origin, "' is not a chunk that this svfleet reads");
  FinishedChunk chunk;
  chunk.run_id = in.text("run_id");
  chunk.step = in.integer("step");
  chunk.chunk = static_cast<int>(in.integer("chunk"));
  chunk.z_hash = in.text("z_hash");
  chunk.gradient = in.floats("gradient");
  if (version == 1) {
    chunk.summary = in.text("summary");
    return chunk;
  }
  chunk.counts = in.integers("counts");
  chunk.sums = in.doubles("sums");
  chunk.texts = in.text("texts");
  return chunk;
}

}  // namespace svfleet
