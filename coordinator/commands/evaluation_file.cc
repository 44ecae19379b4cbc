#include "coordinator/commands/evaluation_file.h"

#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "coordinator/run/json_line.h"

namespace svfleet {
namespace {

using nlohmann::json;

json reply_json(const ItemResult& result) {
  json out = {{"right", result.right},   {"score", result.score}, {"ended", result.ended},
              {"tokens", result.tokens}, {"answer", nullptr},     {"reply", result.reply}};
  if (result.answer) out["answer"] = *result.answer;
  return out;
}

ItemResult reply_of(const json& from) {
  ItemResult result{from.at("score"), from.at("right"), from.at("ended"), from.at("tokens"),
                    from.at("reply")};
  if (const json& answer = from.at("answer"); !answer.is_null()) result.answer = answer;
  return result;
}

// What all lines of a file have in common.
json common_json(const Measurement& measured) {
  json policies = json::array(), readings = json::array();
  for (const MeasuredPolicy& policy : measured.policies) {
    policies.push_back({{"name", policy.name}});
    if (policy.of > 0) policies.back()["control_of"] = measured.policies[policy.of].name;
  }
  for (const EarlierReadings& run : measured.readings)
    readings.push_back({{"run", run.run}, {"times", run.times}});
  return {{"split", measured.split},
          {"temperature", measured.temperature},
          {"samples", measured.samples},
          {"policies", policies},
          {"read_before", readings}};
}

size_t place_of_policy(const Measurement& measured, const std::string& name) {
  size_t place = 0;
  while (place < measured.policies.size() && measured.policies[place].name != name) ++place;
  return place;
}

Measurement without_items(const json& common) {
  Measurement measured;
  measured.split = common.at("split");
  measured.temperature = common.at("temperature");
  measured.samples = common.at("samples");
  for (const json& policy : common.at("policies")) {
    MeasuredPolicy& own = measured.policies.emplace_back();
    own.name = policy.at("name");
    if (policy.contains("control_of"))
      own.of = place_of_policy(measured, policy["control_of"].get<std::string>());
  }
  for (const json& run : common.at("read_before"))
    measured.readings.push_back({run.at("run"), run.at("times")});
  return measured;
}

void add_item(const json& line, const std::string& where, Measurement& measured) {
  measured.items.push_back({line.at("task"), line.at("item"), line.at("prompt"), line.at("gold"),
                            line.value("cluster", "")});
  for (MeasuredPolicy& policy : measured.policies) {
    const json& own = line.at("replies").at(policy.name);
    const json replies = own.is_array() ? own : json::array({own});
    if (measured.samples < 1 || int64_t(replies.size()) != measured.samples)
      throw user_error(where, ": ", replies.size(), " replies of '", policy.name, "' where ",
                       measured.samples, " were sampled; this file is damaged");
    for (const json& reply : replies) policy.replies.push_back(reply_of(reply));
  }
}

Measurement read_one(const std::string& file) {
  Measurement measured;
  json common;
  const std::string bytes = read_file(file);
  std::string_view rest = bytes;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const size_t end = rest.find('\n');
    const std::string where = file + ":" + std::to_string(number);
    const json line = json::parse(rest.substr(0, end), nullptr, false);
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
    try {
      const json& own = line.at("evaluation");
      if (number == 1) measured = without_items(common = own);
      if (own != common)
        throw user_error(where, ": of another evaluation than the lines before it; give files as ",
                         "svfleet evaluate --out wrote them, each with a --from");
      add_item(line, where, measured);
    } catch (const json::exception&) {
      throw user_error(where, ": no line of svfleet evaluate --out, or one of an earlier version, ",
                       "which kept too little for a table; evaluate again");
    }
  }
  if (measured.items.empty() || measured.policies.empty())
    throw user_error("'", file, "' holds no items; give a file of svfleet evaluate --out");
  return measured;
}

bool same_replies(const std::vector<ItemResult>& a, const std::vector<ItemResult>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i].reply != b[i].reply || a[i].score != b[i].score || a[i].ended != b[i].ended)
      return false;
  return a.size() == b.size();
}

// Why the second file cannot stand beside the first, or nothing.
std::string unlike(const Measurement& a, const Measurement& b) {
  if (a.split != b.split) return "the " + b.split + " split, not the " + a.split + " split";
  if (a.samples != b.samples)
    return std::to_string(b.samples) + " samples of an item, not " + std::to_string(a.samples);
  if (a.temperature != b.temperature) return "another temperature";
  for (size_t i = 0; i < std::max(a.items.size(), b.items.size()); ++i)
    if (i >= a.items.size() || i >= b.items.size() || a.items[i] != b.items[i])
      return "other items, first in line " + std::to_string(i + 1);
  for (const MeasuredPolicy& policy : b.policies)
    if (policy.name != b.policies[0].name && place_of_policy(a, policy.name) < a.policies.size())
      return "'" + policy.name + "' too";
  if (!same_replies(a.policies[0].replies, b.policies[0].replies))
    return "a base that answers otherwise (another model, seed or machine)";
  return "";
}

void add_policies(const Measurement& from, Measurement& to) {
  const size_t before = to.policies.size() - 1;  // places of experts move by so many
  for (size_t i = 1; i < from.policies.size(); ++i) {
    to.policies.push_back(from.policies[i]);
    if (to.policies.back().of > 0) to.policies.back().of += before;
  }
  for (const EarlierReadings& run : from.readings) to.readings.push_back(run);
}

}  // namespace

std::string item_lines(const Measurement& measured) {
  const json common = common_json(measured);
  const auto samples = size_t(measured.samples);
  std::string lines;
  for (size_t i = 0; i < measured.items.size(); ++i) {
    const MeasuredItem& item = measured.items[i];
    json replies = json::object();
    for (const MeasuredPolicy& policy : measured.policies) {
      json own = json::array();
      for (size_t s = 0; s < samples; ++s)
        own.push_back(reply_json(policy.replies[i * samples + s]));
      replies[policy.name] = samples == 1 ? own[0] : own;
    }
    json record = {{"task", item.task}, {"item", item.index}, {"prompt", item.prompt},
                   {"gold", item.gold}, {"replies", replies}, {"evaluation", common}};
    if (!item.cluster.empty()) record["cluster"] = item.cluster;
    lines += json_line(record) + "\n";
  }
  return lines;
}

Measurement read_measurement(const std::vector<std::string>& files) {
  Measurement all = read_one(files.at(0));
  for (size_t f = 1; f < files.size(); ++f) {
    const Measurement more = read_one(files[f]);
    if (const std::string what = unlike(all, more); !what.empty())
      throw user_error("'", files[f], "' does not go with '", files[0], "': it has ", what,
                       "; make a table of each by itself");
    add_policies(more, all);
  }
  return all;
}

}  // namespace svfleet
