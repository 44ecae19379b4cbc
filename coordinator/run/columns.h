// Columns of tables, whose texts may hold any character.
#pragma once

#include <algorithm>
#include <string>

namespace svfleet {

// What a terminal shows: characters, not the bytes that printf counts.
inline size_t width(const std::string& text) {
  return size_t(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

inline std::string left(const std::string& text, size_t columns) {
  return text + std::string(columns - std::min(columns, width(text)), ' ');
}

inline std::string right(const std::string& text, size_t columns) {
  return std::string(columns - std::min(columns, width(text)), ' ') + text;
}

}  // namespace svfleet
