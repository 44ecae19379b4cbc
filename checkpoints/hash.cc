#include "checkpoints/hash.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>

#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {

static_assert(std::endian::native == std::endian::little, "hashes and files are little-endian");

struct Hasher::State {
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  // From the library, which aligns it to 64 bytes.
  std::unique_ptr<XXH3_state_t, Free> xxh{XXH3_createState()};
};

namespace {
std::string hex_of(XXH128_hash_t value) {
  XXH128_canonical_t bytes;
  XXH128_canonicalFromHash(&bytes, value);
  std::string out;
  for (unsigned char byte : bytes.digest) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}
}  // namespace

Hasher::Hasher() : state_(std::make_unique<State>()) {
  SVFLEET_CHECK(state_->xxh != nullptr, "no memory for a hash");
  XXH3_128bits_reset(state_->xxh.get());
}
Hasher::~Hasher() = default;

Hasher& Hasher::raw(const void* data, size_t bytes) {
  // In pieces, because what is hashed may be a mapped file that is still to be read.
  constexpr size_t kPiece = size_t{16} << 20;
  const char* next = static_cast<const char*>(data);
  for (size_t n; bytes > 0; next += n, bytes -= n) {
    n = std::min(bytes, kPiece);
    if (n < kPiece) {
      XXH3_128bits_update(state_->xxh.get(), next, n);
      continue;
    }
    const InStage hashing(Stage::kHash);
    XXH3_128bits_update(state_->xxh.get(), next, n);
  }
  return *this;
}

Hasher& Hasher::text(std::string_view value) {
  return number(static_cast<int64_t>(value.size())).raw(value.data(), value.size());
}

Hasher& Hasher::number(int64_t value) {
  return raw(&value, sizeof value);
}

Hasher& Hasher::floats(std::span<const float> values) {
  return number(static_cast<int64_t>(values.size())).raw(values.data(), values.size_bytes());
}

std::string Hasher::hex() const {
  return hex_of(XXH3_128bits_digest(state_->xxh.get()));
}

std::string hash_bytes(std::string_view bytes) {
  return hex_of(XXH3_128bits(bytes.data(), bytes.size()));
}

}  // namespace svfleet
