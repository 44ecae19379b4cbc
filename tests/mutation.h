// How tests damage files: another value somewhere in a JSON text, other bytes anywhere.
#pragma once

#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace svfleet {

// `value` and all in it; of what has more than 100 parts, a vocabulary, none.
inline void walk(nlohmann::json& value, std::vector<nlohmann::json*>& out) {
  out.push_back(&value);
  if (value.is_structured() && value.size() <= 100)
    for (auto& part : value) walk(part, out);
}

// Somewhere in `whole` one of `others` instead, or a member less.
template <size_t n>
void change_value(nlohmann::json& whole, const nlohmann::json (&others)[n], std::mt19937& random) {
  std::vector<nlohmann::json*> values;
  walk(whole, values);
  nlohmann::json& victim = *values[random() % values.size()];
  if (victim.is_object() && !victim.empty() && random() % 2)
    victim.erase(std::next(victim.begin(), long(random() % victim.size())));
  else
    victim = others[random() % n];
}

// Cut short, a byte replaced, bytes taken out or put in twice. `bytes` is not empty.
inline std::string change_bytes(std::string bytes, std::mt19937& random) {
  const size_t at = random() % bytes.size();
  switch (random() % 4) {
    case 0:
      bytes.resize(at);
      break;
    case 1:
      bytes[at] = char(random());
      break;
    case 2:
      bytes.erase(at, random() % 20);
      break;
    default:
      bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 20));
  }
  return bytes;
}

}  // namespace svfleet
