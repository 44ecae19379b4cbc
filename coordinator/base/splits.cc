#include "coordinator/base/splits.h"

#include <array>
#include <unordered_map>

#include "checkpoints/hash.h"
#include "comm/error.h"

namespace svfleet {
namespace {

constexpr int kSplits = 3;
constexpr const char* kNames[kSplits] = {"train", "validation", "test"};

// Where a prompt stands first in each split; empty: not there.
using Places = std::array<std::string, kSplits>;

Task load(const TaskSpec& spec, const std::string& split) {
  try {
    if (!split_file(spec, split).empty()) return load_task(spec, split);
  } catch (const Error&) {
  }
  return {};
}

std::string item_key(const Item& item) {
  Hasher hasher;
  for (const Message& message : item.messages) hasher.text(message.role).text(message.content);
  return hasher.hex();
}

}  // namespace

std::vector<std::string> prompts_in_two_splits(const Config& config, const std::string& with,
                                               const std::vector<Task>* train) {
  std::unordered_map<std::string, Places> found;
  std::vector<std::string> order;  // by the splits' own
  for (int s = 0; s < kSplits; ++s)
    for (size_t t = 0; t < config.tasks.size(); ++t) {
      const TaskSpec& spec = config.tasks[t];
      const Task read = s == 0 && train ? Task{} : load(spec, kNames[s]);
      for (const Item& item : s == 0 && train ? (*train)[t].items : read.items) {
        const auto [place, is_new] = found.try_emplace(item_key(item));
        if (is_new) order.push_back(place->first);
        std::string& where = place->second[s];
        if (where.empty())
          where = split_file(spec, kNames[s]) + ":" + std::to_string(item.index + 1);
      }
    }
  std::vector<std::string> lines;
  for (int a = 0; a < kSplits; ++a)
    for (int b = a + 1; b < kSplits; ++b) {
      if (!with.empty() && with != kNames[a] && with != kNames[b]) continue;
      int64_t count = 0;
      std::string first;
      for (const std::string& key : order) {
        const Places& places = found.at(key);
        if (places[a].empty() || places[b].empty()) continue;
        if (count++ == 0) first = places[a] + " and " + places[b];
      }
      if (count == 0) continue;
      lines.push_back(std::to_string(count) + (count == 1 ? " prompt stands" : " prompts stand") +
                      " in the " + std::string(kNames[a]) + " split and in the " + kNames[b] +
                      " split, first " + first + ": what is measured there may be memory");
    }
  return lines;
}

}  // namespace svfleet
