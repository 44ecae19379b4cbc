// Content hashes: XXH3-128 as 32 lower-case hex digits. Not a defence against forgery.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace svfleet {

class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher& raw(const void* data, size_t bytes);
  // Length-prefixed, so that ("ab","c") and ("a","bc") differ.
  Hasher& text(std::string_view value);
  Hasher& number(int64_t value);
  Hasher& floats(std::span<const float> values);  // length-prefixed too
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string hash_bytes(std::string_view bytes);

}  // namespace svfleet
