#include "coordinator/report/results.h"

#include <map>

#include "checkpoints/file.h"
#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;

bool has_name(const std::string& name, const std::string& begin, const std::string& end) {
  return name.size() >= begin.size() + end.size() && name.starts_with(begin) && name.ends_with(end);
}

// Of several samples of an item the first one speaks.
const json* first_reply(const json& replies, const std::string& policy) {
  const auto found = replies.find(policy);
  if (found == replies.end()) return nullptr;
  const json* one = found->is_array() && !found->empty() ? &found->front() : &*found;
  return one->is_object() && one->contains("right") ? one : nullptr;
}

bool is_right(const json& reply) {
  const json& right = reply["right"];
  return right.is_boolean() ? right.get<bool>() : right.is_number() && right.get<double>() >= 1;
}

std::string text_of(const json& item, const char* key) {
  if (!item.contains(key)) return "";
  return item[key].is_string() ? item[key].get<std::string>() : item[key].dump();
}

void read_items(const std::string& path, const std::string& name, FoundResults& found,
                std::vector<std::string>& notes) {
  std::map<std::pair<std::string, bool>, int64_t> shown;
  int64_t broken = 0;
  read_lines(path, [&](std::string_view text) {
    const json item = json::parse(text, nullptr, false);
    if (!item.is_object() || !item.contains("replies") || !item["replies"].is_object())
      return void(++broken);
    const json* base = first_reply(item["replies"], "base");
    if (!base) return;
    for (const auto& [policy, unused] : item["replies"].items()) {
      const json* reply = policy == "base" ? nullptr : first_reply(item["replies"], policy);
      if (!reply || is_right(*reply) == is_right(*base)) continue;
      const bool gained = is_right(*reply);
      (gained ? found.gained : found.lost) += 1;
      if (shown[{policy, gained}]++ < kSamplesShown)
        found.samples.push_back({text_at(item, "task"), text_at(item, "prompt"),
                                 text_of(item, "gold"), text_at(*base, "reply"),
                                 text_at(*reply, "reply"), policy, gained});
    }
  });
  if (broken)
    notes.push_back(name + ": " + std::to_string(broken) + " lines are no items, left out");
}

}  // namespace

std::string text_at(const json& record, const std::string& key) {
  const auto found = record.find(key);
  return found != record.end() && found->is_string() ? found->get<std::string>() : "";
}

FoundResults find_results(const std::string& folder, std::vector<std::string>& notes) {
  FoundResults found;
  for (const std::string& name : list_folder(folder)) {
    const std::string path = folder + "/" + name;
    if (has_name(name, "evaluation", ".jsonl")) read_items(path, name, found, notes);
    if (!has_name(name, "evaluation", ".json") && !has_name(name, "adaptation", ".json")) continue;
    json report = json::parse(read_file(path), nullptr, false);
    if (report.is_object() && report.contains("results") && report["results"].is_array())
      found.reports.emplace_back(name, std::move(report));
    else
      notes.push_back(name + " is no result of svfleet evaluate or adapt --json, left out");
  }
  read_lines(folder + "/readings.jsonl", [&](std::string_view text) {
    const json reading = json::parse(text, nullptr, false);
    found.readings += reading.is_object() && text_at(reading, "kind") == "reading";
  });
  return found;
}

}  // namespace svfleet
