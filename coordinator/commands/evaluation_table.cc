#include "coordinator/commands/evaluation_table.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "comm/counted.h"
#include "coordinator/commands/adaptation_report.h"
#include "coordinator/commands/evaluation_rows.h"
#include "coordinator/run/columns.h"
#include "coordinator/run/json_line.h"

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

// Controls have no adjusted p.
std::string formatted_if(const json& found, const char* key) {
  return found.contains(key) ? formatted("%.2g", found[key]) : "";
}

// `adjusted`: whether there is a column for that.
std::string row(const std::string& name, size_t columns, const json& found, bool adjusted = false) {
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
  double p = found.value("p_adjusted", found.at("p_value").get<double>());
  if (adjusted) line += right(formatted_if(found, "p_adjusted"), 10);
  if (found.contains("score_p_value")) {
    p = found.at("score_p_value");  // what is trained, and chooses the best
    line += right(formatted("%+.3f", found.at("score_gain")) + " (" +
                      formatted("%+.3f", found.at("score_low")) + " to " +
                      formatted("%+.3f", found.at("score_high")) + ")",
                  28) +
            right(formatted("%.2g", p), 10);
    if (adjusted) line += right(formatted_if(found, "score_p_adjusted"), 10);
    p = found.value("score_p_adjusted", p);
  }
  if (p > 0.05) line += "  not distinguishable from base";
  return line + "\n";
}

// The line that says so where controls of an expert are as good as it is.
std::string reached_text(const json& controls, const std::string& expert) {
  std::string names;
  for (const json& name : controls)
    names += (names.empty() ? "'" : " and '") + name.get<std::string>() + "'";
  return "A CONTROL REACHES THE EXPERT: '" + expert + "' is not clearly better than " + names +
         ", which must fail; what it gains over the base is no evidence that it has learnt "
         "anything";
}

// "12 items of the test split, 4 samples of each, in 3 clusters".
std::string what_was_asked(const json& evaluation) {
  std::string text = counted(evaluation.at("n").get<int64_t>(), "item") + " of the " +
                     evaluation.at("split").get<std::string>() + " split";
  if (evaluation.contains("samples"))
    text += ", " + whole(evaluation["samples"]) + " samples of each";
  if (evaluation.contains("clusters"))
    text += ", in " + counted(evaluation["clusters"].get<int64_t>(), "cluster");
  return text + "\n";
}

// Whether several experts were compared with the base.
bool is_adjusted(const json& results) {
  return std::any_of(results.begin(), results.end(),
                     [](const json& result) { return result.contains("p_adjusted"); });
}

std::string heading(const json& results, size_t columns) {
  const json& last = results.back();
  const bool adjusted = is_adjusted(results);
  std::string line = left("", columns) + right("right", 12) + right("accuracy", 10) +
                     right("95 % interval", 18) + right("score", 8) + right("ended", 8) +
                     right("tokens", 8);
  if (results.size() > 1) line += right("expert : base", 16) + right("p", 10);
  if (adjusted) line += right("p (Holm)", 10);
  if (last.contains("score_p_value")) line += right("gain in score", 28) + right("p", 10);
  if (adjusted && last.contains("score_p_value")) line += right("p (Holm)", 10);
  return line + "\n";
}

std::string share(const json& at, const std::string& name) {
  return formatted("%.3f", at.at(name)) + " (" + formatted("%.3f", at.at(name + "_low")) + " to " +
         formatted("%.3f", at.at(name + "_high")) + ")";
}

// What k samples of an item are worth, where there are several.
std::string table_at_k(const json& results, const std::vector<std::string>& names, size_t columns) {
  if (!results[0].contains("at_k")) return "";
  std::string out =
      left("", columns) + right("k", 6) + right("pass@k", 28) + right("majority@k", 28) + "\n";
  for (size_t i = 0; i < results.size(); ++i)
    for (const json& at : results[i].at("at_k"))
      out += left(at.at("k") == 1 ? names[i] : "", columns) + right(whole(at.at("k")), 6) +
             right(share(at, "pass"), 28) + right(share(at, "majority"), 28) + "\n";
  return out;
}

std::string read_before(const json& evaluation) {
  std::string out;
  for (const json& run : evaluation.value("read_before", json::array()))
    out += "the " + evaluation.at("split").get<std::string>() + " split of '" +
           run.at("run").get<std::string>() + "' was read " +
           counted(run.at("times").get<int64_t>(), "time") +
           " before: what was chosen by it is no longer tested by it\n";
  return out;
}

// What --json does not show in its table.
void warn_of_controls(const json& found) {
  for (const json& result : found["results"])
    if (const json names = result.value("reached_by", json::array()); !names.empty())
      spdlog::warn("{}", reached_text(names, result["name"]));
}

}  // namespace

std::string evaluation_table(const json& evaluation) {
  const json& results = evaluation.at("results");
  const std::vector<std::string> names = names_of(results);
  size_t columns = 12;
  for (size_t i = 0; i < results.size(); ++i) {
    columns = std::max(columns, width(names[i]));
    for (const json& task : results[i].at("by_task"))
      columns = std::max(columns, width(task.at("task").get<std::string>()) + 2);
  }
  std::string out = what_was_asked(evaluation) + heading(results, columns);
  for (size_t i = 0; i < results.size(); ++i) {
    out += row(names[i], columns, results[i], is_adjusted(results));
    const json& by_task = results[i].at("by_task");
    if (by_task.size() < 2) continue;
    for (const json& task : by_task)
      out += row("  " + task.at("task").get<std::string>(), columns, task);
  }
  out += table_at_k(results, names, columns);
  for (size_t i = 0; i < results.size(); ++i) {
    json reached_by = json::array();
    for (const json& name : results[i].value("reached_by", json::array()))
      for (size_t k = 0; k < results.size(); ++k)
        if (results[k].at("name") == name) reached_by.push_back(names[k]);
    if (!reached_by.empty()) out += reached_text(reached_by, names[i]) + "\n";
  }
  return out + read_before(evaluation);
}

void tell_evaluation(const Measurement& measured, bool as_json, const json& adaptation) {
  json found = evaluation_json(measured);
  if (!adaptation.is_null()) found["adaptation"] = adaptation;
  if (as_json) {
    std::printf("%s\n", json_line(found).c_str());
    warn_of_controls(found);
  } else {
    std::fputs(evaluation_table(found).c_str(), stdout);
    if (!adaptation.is_null()) std::fputs(adaptation_text(adaptation).c_str(), stdout);
  }
  std::fflush(stdout);  // what was measured is told even where a file fails now
}

}  // namespace svfleet
