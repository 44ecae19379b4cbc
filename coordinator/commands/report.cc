// svfleet report: runs beside each other, as a page and as tables.
#include "coordinator/report/report.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "comm/counted.h"
#include "comm/error.h"
#include "comm/group.h"
#include "coordinator/commands/commands.h"
#include "coordinator/config/report_options.h"
#include "coordinator/run/json_line.h"

namespace svfleet {
namespace {

// The first line of both files, by which a report is known that may be written anew. No reader
// shows it.
constexpr char kMark[] = "<!-- made by svfleet report -->";

// Whether a report is there, or nothing.
bool report_may_go(const std::string& path) {
  std::error_code none;
  if (!std::filesystem::is_regular_file(path, none) || std::filesystem::file_size(path, none) == 0)
    return true;
  std::ifstream in(path);
  std::string first;
  std::getline(in, first);
  return first == kMark;
}

void check_files(const std::string& out, const ReportFiles& files) {
  if (is_folder(files.html) || is_folder(files.markdown))
    throw user_error("--out '", out, "' is a folder; give the name of a file");
  for (const std::string& path : {files.html, files.markdown})
    if (!report_may_go(path))
      throw user_error("--out '", out, "' would take the place of '", path,
                       "', which is no report of svfleet; choose another name, or remove it first");
}

void check_run_given_once(const std::vector<std::string>& runs) {
  for (size_t i = 0; i < runs.size(); ++i)
    for (size_t k = 0; k < i; ++k)
      if (resolved_path(runs[i]) == resolved_path(runs[k]))
        throw user_error("run '", runs[i], "' is given twice; leave one out");
}

}  // namespace

int report_command(const CommandLine& line) {
  if (launch_rank() != 0) return kExitFinished;
  check_run_given_once(line.runs);
  const ReportFiles files = report_files(line.out);
  check_files(line.out, files);
  std::vector<FoundRun> runs;
  for (const std::string& folder : line.runs)
    for (FoundRun& run : find_runs(folder)) runs.push_back(std::move(run));
  const ReportDocument document = report_of(runs);
  std::string title = runs.size() == 1 ? runs[0].name : counted(int64_t(line.runs.size()), "run");
  if (runs.size() > line.runs.size()) title += ", " + counted(int64_t(runs.size()), "expert");
  const std::string mark = std::string(kMark) + "\n";
  write_file_atomic(files.html, mark + as_html(title, document));
  write_file_atomic(files.markdown, mark + as_markdown(title, document));
  nlohmann::json notes = nlohmann::json::array();
  for (const FoundRun& run : runs)
    for (const std::string& note : run.notes) notes.push_back(run.name + ": " + note);
  if (line.json) {
    const nlohmann::json told = {
        {"html", files.html}, {"markdown", files.markdown}, {"notes", notes}};
    std::printf("%s\n", json_line(told).c_str());
    return kExitFinished;
  }
  for (const auto& note : notes) std::printf("%s\n", note.get<std::string>().c_str());
  std::printf("%s and %s\n", files.html.c_str(), files.markdown.c_str());
  return kExitFinished;
}

}  // namespace svfleet
