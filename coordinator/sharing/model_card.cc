#include "coordinator/sharing/model_card.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace svfleet {
namespace {

using nlohmann::json;

// A text of others, in a cell of a table.
std::string cell(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == '|' || c == '`'; },
      ' ');
  return text;
}

// What stands elsewhere on the page, or means nothing to a reader.
bool is_shown_elsewhere(const std::string& key) {
  for (const char* other : {"format", "version", "z_hash", "model_hash", "store_hash"})
    if (key == other) return true;
  return false;
}

std::string row(const std::string& what, const std::string& value) {
  return "| " + what + " | " + (value.empty() ? "not known" : "`" + cell(value) + "`") + " |\n";
}

std::string size_of_moves(const OpenedExpert& opened) {
  int64_t entries = 0, moved = 0;
  float least = 1, most = 1;
  for (const auto& [name, z] : opened.expert.z)
    for (const float value : z) {
      ++entries;
      moved += value != 1;
      least = std::min(least, value), most = std::max(most, value);
    }
  char text[160];
  if (!opened.expert.core.empty())
    return opened.expert.core + ", " + std::to_string(entries) + " numbers in " +
           std::to_string(opened.expert.z.size()) + " tensors";
  std::snprintf(text, sizeof text, "%zu matrices, %lld of %lld scales moved, from %.4f to %.4f",
                opened.expert.z.size(), static_cast<long long>(moved),
                static_cast<long long>(entries), least, most);
  return text;
}

}  // namespace

std::string model_card(const OpenedExpert& opened, const Origin& origin, const CardText& text) {
  std::string card = "---\nbase_model: " + json(origin.name).dump() +
                     "\nlibrary_name: " + text.library +
                     "\ntags: [svf, transformer2, reinforcement-learning]\n---\n\n";
  card += "# " + text.title + "\n\n" + text.use;
  card += "\n## What it belongs to\n\n| | |\n|---|---|\n";
  card += row("base model", origin.name) + row("revision", origin.revision) +
          row("model_hash", opened.base.model_hash) +
          row("store_hash, of the factors of the adapted matrices", factors_hash_of(opened)) +
          row("z_hash", z_hash(opened.expert)) + row("expert", size_of_moves(opened));
  card += "\nHashes are svfleet's (XXH3-128 of contents): they find accidents, not forgeries.\n";
  std::string trained;
  for (const auto& [key, value] : opened.expert.metadata)
    if (!is_shown_elsewhere(key)) trained += row(cell(key), value);
  if (!trained.empty())
    card +=
        "\n## How it was made\n\nAs the expert's metadata have it.\n\n| | |\n|---|---|\n" + trained;
  return card;
}

}  // namespace svfleet
