// Rows of numbers one behind the other, as records of the journal hold them: little-endian.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace svfleet {

static_assert(std::endian::native == std::endian::little, "records are little-endian");

template <class T>
void put_numbers(std::string& bytes, const T* values, size_t count) {
  if (count > 0) bytes.append(reinterpret_cast<const char*>(values), count * sizeof(T));
}

// Takes them from the front; false when there are not so many.
template <class Values>
bool take_numbers(std::string_view& bytes, uint64_t count, Values& values) {
  const size_t each = sizeof(values[0]);
  if (count > bytes.size() / each) return false;
  values.resize(count);
  if (count > 0) std::memcpy(values.data(), bytes.data(), count * each);
  bytes.remove_prefix(count * each);
  return true;
}

}  // namespace svfleet
