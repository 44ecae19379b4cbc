#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "coordinator/report/picture.h"
#include "coordinator/report/report.h"
#include "coordinator/report/results.h"

namespace svfleet {
namespace {

using nlohmann::json;

// record.key or record.key.inner where it is a number, else NaN.
double number_at(const json& record, const std::string& key, const std::string& inner) {
  const auto found = record.find(key);
  if (found == record.end()) return NAN;
  if (inner.empty()) return found->is_number() ? found->get<double>() : NAN;
  if (!found->is_object() || !found->contains(inner)) return NAN;
  return (*found)[inner].is_number() ? (*found)[inner].get<double>() : NAN;
}

Series series_of(const std::string& name, const std::vector<json>& records, const std::string& key,
                 const std::string& inner = "") {
  Series series{name, {}};
  for (const json& record : records)
    if (const double value = number_at(record, key, inner); std::isfinite(value))
      series.points.emplace_back(record["step"].get<double>(), value);
  return series;
}

void add_chart(const std::vector<FoundRun>& runs, const char* title, bool validation,
               const std::string& key, const std::string& inner, ReportSection& section,
               ReportTable& table) {
  std::vector<Series> all;
  for (const FoundRun& run : runs)
    all.push_back(
        series_of(run.name, validation ? run.log.validations : run.log.steps, key, inner));
  const std::string svg = line_chart(title, all);
  if (svg.empty()) return;
  section.parts.push_back(ReportPicture{svg});
  for (size_t k = 0; k < runs.size(); ++k) {
    const auto& points = all[k].points;
    if (points.empty()) continue;
    double low = points[0].second, high = low;
    for (const auto& [step, value] : points)
      low = std::min(low, value), high = std::max(high, value);
    table.rows.push_back({title, runs[k].name, shown_number(points.front().second),
                          shown_number(points.back().second), shown_number(low),
                          shown_number(high)});
  }
}

ReportSection curves_section(const std::vector<FoundRun>& runs) {
  ReportSection section{"Curves", {}};
  ReportTable table{{"", "run", "first", "last", "lowest", "highest"}, {}};
  add_chart(runs, "score, sampled in training", false, "score", "", section, table);
  add_chart(runs, "share of right replies, sampled in training", false, "accuracy", "", section,
            table);
  add_chart(runs, "score in validation", true, "score", "", section, table);
  add_chart(runs, "KL to the base, nats per reply (k3)", false, "kl", "k3", section, table);
  add_chart(runs, "loss, nats per token", false, "loss", "", section, table);
  add_chart(runs, "norm of the gradient", false, "gradient_norm", "", section, table);
  add_chart(runs, "share of replies that end", false, "ended_fraction", "", section, table);
  add_chart(runs, "tokens of a reply", false, "mean_tokens", "", section, table);
  if (!table.rows.empty()) section.parts.push_back(std::move(table));
  return section;
}

// Settings that do not have the same value in all runs.
ReportSection settings_section(const std::vector<FoundRun>& runs) {
  std::set<std::string> keys;
  for (const FoundRun& run : runs)
    for (const auto& [key, value] : run.settings) keys.insert(key);
  ReportTable table{{"setting"}, {}};
  for (const FoundRun& run : runs) table.header.push_back(run.name);
  for (const std::string& key : keys) {
    std::vector<std::string> row{key};
    for (const FoundRun& run : runs) {
      const auto found = run.settings.find(key);
      row.push_back(found == run.settings.end() ? "-" : found->second);
    }
    if (runs.size() == 1 ||
        std::adjacent_find(row.begin() + 1, row.end(), std::not_equal_to<>()) != row.end())
      table.rows.push_back(std::move(row));
  }
  ReportSection section{runs.size() == 1 ? "Settings" : "Settings that differ", {}};
  if (table.rows.empty())
    section.parts.push_back(runs.size() == 1 ? "Not known."
                                             : "None: the runs have equal settings.");
  else
    section.parts.push_back(std::move(table));
  return section;
}

ReportSection costs_section(const std::vector<FoundRun>& runs) {
  ReportTable table{{"run", "steps", "replies", "tokens sampled", "seconds of steps", "starts",
                     "ranks of the last"},
                    {}};
  for (const FoundRun& run : runs) {
    double replies = 0, tokens = 0, seconds = 0;
    for (const json& step : run.log.steps) {
      const double counted = number_at(step, "counted", ""),
                   length = number_at(step, "mean_tokens", "");
      const double wall_s = number_at(step, "wall_s", "");
      if (std::isfinite(counted)) replies += counted;
      if (std::isfinite(counted * length)) tokens += counted * length;
      if (std::isfinite(wall_s)) seconds += wall_s;
    }
    table.rows.push_back({run.name, std::to_string(run.log.steps.size()),
                          std::to_string(int64_t(replies)), std::to_string(int64_t(tokens + 0.5)),
                          shown_number(seconds), std::to_string(run.log.starts),
                          run.log.ranks ? std::to_string(run.log.ranks) : "-"});
  }
  std::string says =
      "Replies that count, and their tokens; a step's seconds are by the clock, lost work not "
      "counted.";
  if (std::any_of(runs.begin(), runs.end(),
                  [](const FoundRun& run) { return run.name != run.folder; }))
    says +=
        " Experts of one run are trained in the same steps: the seconds beside each are those "
        "of all of them.";
  return {"Costs", {std::move(says), std::move(table)}};
}

ReportSection runs_section(const std::vector<FoundRun>& runs) {
  ReportTable table{{"run", "state", "expert", "z hash"}, {}};
  ReportSection section{"Runs", {}};
  for (const FoundRun& run : runs) {
    const auto& metadata = run.expert.metadata;
    const std::string hash = metadata.contains("z_hash") ? metadata.at("z_hash") : "-";
    table.rows.push_back({run.name, run.log.finished ? "finished" : "not finished",
                          run.expert_file.empty() ? "-" : run.expert_file, hash});
  }
  section.parts.push_back(std::move(table));
  for (const FoundRun& run : runs)
    for (const std::string& note : run.notes) section.parts.push_back(run.name + ": " + note);
  return section;
}

}  // namespace

ReportDocument report_of(const std::vector<FoundRun>& runs) {
  ReportDocument document{runs_section(runs),   settings_section(runs), curves_section(runs),
                          change_section(runs), results_section(runs),  samples_section(runs),
                          costs_section(runs)};
  std::erase_if(document, [](const ReportSection& section) { return section.parts.empty(); });
  return document;
}

}  // namespace svfleet
