#include "checkpoints/hash.h"

#include <gtest/gtest.h>

#include <random>

namespace svfleet {
namespace {

// XXH3-128 with seed 0, from the Python package xxhash (bytes i mod 251 for the long one).
TEST(Hash, KnownVectors) {
  EXPECT_EQ(hash_bytes(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hash_bytes("a"), "a96faf705af16834e6c632b61e964e1f");
  EXPECT_EQ(hash_bytes("abc"), "06b05ab6733a618578af5f94892f3950");
  EXPECT_EQ(hash_bytes("Nobody inspects the spammish repetition"),
            "a32c6f55b80b5f449f1a957522431b91");
  std::string bytes;
  for (int i = 0; i < 1000; ++i) bytes += static_cast<char>(i % 251);
  EXPECT_EQ(hash_bytes(bytes), "18bf41bc8229e27733ef703fb2b20ed1");
}

TEST(Hash, StreamingEqualsWhole) {
  std::mt19937 random(1);
  std::string bytes(100'000, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  Hasher hasher;
  for (size_t at = 0; at < bytes.size();) {
    const size_t n = std::min<size_t>(random() % 5000, bytes.size() - at);
    hasher.raw(bytes.data() + at, n);
    at += n;
  }
  EXPECT_EQ(hasher.hex(), hash_bytes(bytes));
  EXPECT_EQ(hasher.hex(), hash_bytes(bytes));  // hex() does not end it
}

TEST(Hash, PartsDoNotRunTogether) {
  EXPECT_NE(Hasher().text("ab").text("c").hex(), Hasher().text("a").text("bc").hex());
  const std::vector<float> one{1.f}, two{1.f, 2.f}, rest{2.f}, none;
  EXPECT_NE(Hasher().floats(one).floats(rest).hex(), Hasher().floats(two).floats(none).hex());
  EXPECT_NE(Hasher().number(1).hex(), Hasher().number(2).hex());
  // By hand: text is an 8-byte little-endian length and the bytes.
  EXPECT_EQ(Hasher().text("abc").hex(), hash_bytes(std::string("\3\0\0\0\0\0\0\0abc", 11)));
  EXPECT_EQ(Hasher().number(258).hex(), hash_bytes(std::string("\2\1\0\0\0\0\0\0", 8)));
  EXPECT_EQ(Hasher().floats(one).hex(),
            hash_bytes(std::string("\1\0\0\0\0\0\0\0\0\0\x80\x3f", 12)));
}

TEST(Hash, ZeroSignCounts) {
  const std::vector<float> plus{0.f}, minus{-0.f};
  EXPECT_NE(Hasher().floats(plus).hex(), Hasher().floats(minus).hex());
}

}  // namespace
}  // namespace svfleet
