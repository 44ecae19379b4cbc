#include "coordinator/commands/evaluation_table.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "coordinator/run/columns.h"

namespace svfleet {
namespace {

using nlohmann::json;

// "runs/a/experts/best.safetensors shuffled" -> "a/best shuffled".
std::string short_name(const std::string& name) {
  const std::string ending = ".safetensors";
  const size_t at = name.rfind(ending);
  if (at == std::string::npos) return name;
  const std::filesystem::path path = name.substr(0, at);
  const std::filesystem::path folder = path.parent_path();
  std::string text = path.filename().string();
  const std::string run = folder.parent_path().filename().string();
  if (folder.filename() == "experts" && !run.empty()) text = run + "/" + text;
  return text + name.substr(at + ending.size());
}

// Short ones, unless two would be the same.
std::vector<std::string> names_of(const json& results) {
  std::vector<std::string> names;
  for (const json& result : results)
    names.push_back(short_name(result.at("name").get<std::string>()));
  const std::vector<std::string> all = names;
  for (size_t i = 0; i < names.size(); ++i)
    if (std::count(all.begin(), all.end(), all[i]) > 1)
      names[i] = results[i].at("name").get<std::string>();
  return names;
}

std::string formatted(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string whole(const json& value) {
  return std::to_string(value.get<int64_t>());
}

std::string row(const std::string& name, size_t columns, const json& found) {
  std::string line =
      left(name, columns) + right(whole(found.at("right")) + "/" + whole(found.at("n")), 12) +
      right(formatted("%.3f", found.at("accuracy")), 10) +
      right(formatted("%.3f", found.at("low")) + " to " + formatted("%.3f", found.at("high")), 18) +
      right(formatted("%.3f", found.at("score")), 8) +
      right(formatted("%.1f%%", 100 * found.at("ended").get<double>()), 8) +
      right(formatted("%.1f", found.at("mean_tokens")), 8);
  if (!found.contains("p_value")) return line + "\n";
  line += right(whole(found.at("only_expert")) + " : " + whole(found.at("only_base")), 16) +
          right(formatted("%.2g", found.at("p_value")), 10);
  double p = found.at("p_value");
  if (found.contains("score_p_value")) {
    p = found.at("score_p_value");  // what is trained, and chooses the best
    line += right(formatted("%+.3f", found.at("score_gain")) + " (" +
                      formatted("%+.3f", found.at("score_low")) + " to " +
                      formatted("%+.3f", found.at("score_high")) + ")",
                  28) +
            right(formatted("%.2g", p), 10);
  }
  if (p > 0.05) line += "  not distinguishable from base";
  return line + "\n";
}

}  // namespace

std::string reached_text(const json& controls, const std::string& expert) {
  std::string names;
  for (const json& name : controls)
    names += (names.empty() ? "'" : " and '") + name.get<std::string>() + "'";
  return "A CONTROL REACHES THE EXPERT: '" + expert + "' is not clearly better than " + names +
         ", which must fail; what it gains over the base is no evidence that it has learnt "
         "anything";
}

std::string evaluation_table(const json& evaluation) {
  const json& results = evaluation.at("results");
  const std::vector<std::string> names = names_of(results);
  size_t columns = 12;
  for (size_t i = 0; i < results.size(); ++i) {
    columns = std::max(columns, width(names[i]));
    for (const json& task : results[i].at("by_task"))
      columns = std::max(columns, width(task.at("task").get<std::string>()) + 2);
  }
  std::string out = whole(evaluation.at("n")) +
                    (evaluation.at("n") == 1 ? " item of the " : " items of the ") +
                    evaluation.at("split").get<std::string>() + " split\n" + left("", columns) +
                    right("right", 12) + right("accuracy", 10) + right("95 % interval", 18) +
                    right("score", 8) + right("ended", 8) + right("tokens", 8);
  if (results.size() > 1) out += right("expert : base", 16) + right("p", 10);
  if (results.back().contains("score_p_value")) out += right("gain in score", 28) + right("p", 10);
  out += "\n";
  for (size_t i = 0; i < results.size(); ++i) {
    out += row(names[i], columns, results[i]);
    const json& by_task = results[i].at("by_task");
    if (by_task.size() < 2) continue;
    for (const json& task : by_task)
      out += row("  " + task.at("task").get<std::string>(), columns, task);
  }
  for (size_t i = 0; i < results.size(); ++i) {
    json reached_by = json::array();
    for (const json& name : results[i].value("reached_by", json::array()))
      for (size_t k = 0; k < results.size(); ++k)
        if (results[k].at("name") == name) reached_by.push_back(names[k]);
    if (!reached_by.empty()) out += reached_text(reached_by, names[i]) + "\n";
  }
  return out;
}

}  // namespace svfleet
