// What was measured of a run: evaluations, routing and mixtures, as rows of tables.
#include <algorithm>

#include "coordinator/report/report.h"
#include "coordinator/report/results.h"

namespace svfleet {
namespace {

using nlohmann::json;

std::string number_text(const json& record, const char* key) {
  return record.contains(key) && record[key].is_number() ? shown_number(record[key]) : "-";
}

ReportTable accuracies(const std::vector<FoundRun>& runs) {
  ReportTable table{
      {"run", "file", "split", "who", "task", "items", "accuracy", "95 % interval", "p"}, {}};
  for (const FoundRun& run : runs)
    for (const auto& [file, report] : run.results.reports)
      for (const json& result : report["results"]) {
        if (!result.is_object()) continue;
        std::vector<json> rows{result};
        if (result.contains("by_task") && result["by_task"].is_array() &&
            result["by_task"].size() > 1)
          rows.insert(rows.end(), result["by_task"].begin(), result["by_task"].end());
        for (size_t i = 0; i < rows.size(); ++i)
          if (rows[i].is_object())
            table.rows.push_back(
                {run.folder, file, text_at(report, "split"), text_at(result, "name"),
                 i ? text_at(rows[i], "task") : "all", number_text(rows[i], "n"),
                 number_text(rows[i], "accuracy"),
                 number_text(rows[i], "low") + " to " + number_text(rows[i], "high"),
                 number_text(rows[i], "p_value")});
      }
  return table;
}

// The tasks that a report measured, for people.
std::string tasks_of(const json& report) {
  std::string out;
  const json& first = report["results"].empty() ? report : report["results"][0];
  if (first.contains("by_task") && first["by_task"].is_array())
    for (const json& task : first["by_task"])
      if (task.is_object()) out += (out.empty() ? "" : ", ") + text_at(task, "task");
  return out;
}

void add_shares(const FoundRun& run, const std::string& file, const json& report,
                const json& search, ReportTable& table) {
  table.rows.push_back(
      {run.folder, file, tasks_of(report), "base", number_text(search, "base_share")});
  if (search.contains("experts") && search["experts"].is_array())
    for (const json& expert : search["experts"])
      if (expert.is_object())
        table.rows.push_back({run.folder, file, tasks_of(report), text_at(expert, "label"),
                              number_text(expert, "share")});
}

void add_confusion(const FoundRun& run, const std::string& file, const json& routing,
                   ReportSection& section) {
  if (!routing.contains("labels") || !routing["labels"].is_array() ||
      !routing.contains("confusion") || !routing["confusion"].is_array() ||
      routing["labels"].size() != routing["confusion"].size())
    return;
  ReportTable table{{"whose, answered by"}, {}};
  for (const json& label : routing["labels"])
    table.header.push_back(label.is_string() ? label.get<std::string>() : label.dump());
  for (size_t i = 0; i < routing["confusion"].size(); ++i) {
    std::vector<std::string> row{table.header[i + 1]};
    for (const json& count : routing["confusion"][i]) row.push_back(count.dump());
    table.rows.push_back(std::move(row));
  }
  section.parts.push_back(
      run.folder + ", " + file + ": " + number_text(routing, "accuracy") +
      " of the prompts came to the right expert; the majority class would have " +
      number_text(routing, "majority") + ", a bag of words " +
      number_text(routing, "bag_of_words") + ".");
  section.parts.push_back(std::move(table));
}

}  // namespace

ReportSection results_section(const std::vector<FoundRun>& runs) {
  ReportSection section{"What was measured", {}};
  if (ReportTable table = accuracies(runs); !table.rows.empty())
    section.parts.push_back(std::move(table));
  ReportTable shares{{"run", "file", "tasks", "expert", "share"}, {}};
  for (const FoundRun& run : runs)
    for (const auto& [file, report] : run.results.reports) {
      const auto found = report.find("adaptation");
      if (found == report.end() || !found->is_object()) continue;
      if (found->contains("search") && (*found)["search"].is_object())
        add_shares(run, file, report, (*found)["search"], shares);
      if (found->contains("routing") && (*found)["routing"].is_object())
        add_confusion(run, file, (*found)["routing"], section);
    }
  if (!shares.rows.empty()) {
    section.parts.push_back("Shares of the mixtures:");
    section.parts.push_back(std::move(shares));
  }
  for (const FoundRun& run : runs)
    if (run.results.readings)
      section.parts.push_back(run.folder + ": its test split was read " +
                              std::to_string(run.results.readings) +
                              (run.results.readings == 1 ? " time." : " times."));
  return section;
}

ReportSection samples_section(const std::vector<FoundRun>& runs) {
  ReportSection section{"Samples that changed", {}};
  for (const FoundRun& run : runs) {
    if (run.results.samples.empty()) continue;
    ReportTable table{{"", "who", "task", "prompt", "right answer", "base", "expert"}, {}};
    std::vector<ChangedSample> samples = run.results.samples;
    std::stable_sort(
        samples.begin(), samples.end(),
        [](const ChangedSample& a, const ChangedSample& b) { return a.gained > b.gained; });
    for (const ChangedSample& one : samples)
      table.rows.push_back({one.gained ? "gained" : "lost", one.who, one.task, one.prompt, one.gold,
                            one.base, one.expert});
    section.parts.push_back(run.folder + ": " + std::to_string(run.results.gained) +
                            " gained and " + std::to_string(run.results.lost) +
                            " lost against the base; the first of each.");
    section.parts.push_back(std::move(table));
  }
  return section;
}

}  // namespace svfleet
