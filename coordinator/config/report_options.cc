#include "coordinator/config/report_options.h"

#include <CLI/CLI.hpp>

namespace svfleet {
namespace {

constexpr char kReportFooter[] =
    R"(Writes FILE.html, one page that needs nothing else, and FILE.md, the same as tables; FILE may have either
ending. Shows settings that differ, curves, what was learnt by layer and component, what was measured, who
answered what and with which shares, samples that changed, and costs. Reads the run folders only, while runs
go on and after their end; what is damaged or not there yet is said in a line. Of a run folder it reads
evaluation*.json and adaptation*.json (what --json of evaluate and adapt printed), and evaluation*.jsonl (evaluate --out).

Examples:
  svfleet report runs/a --out a.html
  svfleet report runs/seed-0 runs/seed-1 runs/lora --out seeds)";

}  // namespace

void add_report_options(CLI::App* command, CommandLine* line) {
  command->footer(kReportFooter);
  command->add_option("RUN", line->runs, "Run folders")->required()->type_name("");
  command->add_option("--out", line->out, "Where the page goes")->required()->type_name("FILE");
  command->add_flag("--json", line->json, "Report as one JSON object on stdout");
}

ReportFiles report_files(const std::string& out) {
  std::string stem = out;
  for (const std::string ending : {".html", ".md"})
    if (stem.size() > ending.size() && stem.ends_with(ending)) {
      stem.resize(stem.size() - ending.size());
      break;
    }
  return {stem + ".html", stem + ".md"};
}

}  // namespace svfleet
