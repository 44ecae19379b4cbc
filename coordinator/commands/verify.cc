// svfleet verify: reads again, to the last byte, everything that a run rests on. A start reads the
// weights that it loads, the newest checkpoint and the factors; this reads the rest too.
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoints/clean.h"
#include "checkpoints/run_checkpoint.h"
#include "coordinator/base/base.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/truth.h"
#include "coordinator/commands/verifier.h"
#include "coordinator/config/reader.h"
#include "coordinator/run/gone.h"
#include "coordinator/run/json_line.h"
#include "coordinator/run/log_index.h"
#include "coordinator/training/best.h"
#include "coordinator/training/plan.h"
#include "coordinator/training/trained_with.h"

namespace svfleet {
namespace {

using nlohmann::json;

// What is read as text, and of which only the run's checkpoint says what it was.
std::vector<std::string> changed_texts(const Config& config) {
  const auto run = load_newest_checkpoint(config.run_dir).state;
  if (!run) return {};
  std::vector<std::string> lines;
  try {
    const Architecture architecture = read_architecture(config.model.path, config.model.max_length);
    const Texts texts = open_texts(config, architecture);
    for (const std::string& file : changed_model_files(
             *run, config, folder_hashes(architecture, *texts.tokenizer, texts.chat.get())))
      lines.push_back(file + " is not what the run was trained with; put it back");
  } catch (const Error& error) {
    lines.push_back(error.what());
  }
  for (const std::string& line : changed_items(*run)) lines.push_back(line);
  return lines;
}

using Pieces = std::vector<std::pair<std::string, std::string>>;  // kind, name

// `found`: what is wrong with each piece, or nothing.
json report_of(const Pieces& all, const std::vector<std::string>& found, const json& foreign,
               const Config& config) {
  json report = {{"problems", json::array()}, {"suspect", json::array()}, {"foreign", foreign}};
  for (const char* kind : kKinds) {
    int64_t read = 0, damaged = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i].first != kind) continue;
      ++read;
      damaged += !found[i].empty();
    }
    report[kind] = {{"path", folder_of(config, kind)}, {"read", read}, {"damaged", damaged}};
  }
  json& problems = report["problems"];
  for (const std::string& problem : found)
    if (!problem.empty()) problems.push_back(problem);
  for (const std::string& where : broken_lines(config.run_dir)) problems.push_back(where);
  for (const std::string& gone : gone_files(config.run_dir)) problems.push_back(gone);
  for (const std::string& changed : changed_texts(config)) problems.push_back(changed);
  // Not damaged, and used by nobody: made with weights that had changed in memory.
  for (const std::string& name : suspect_checkpoints(config.run_dir))
    report["suspect"].push_back(config.run_dir + "/checkpoints/" + name);
  return report;
}

void print(const json& report) {
  const auto text = [](const json& value) { return value.get<std::string>(); };
  for (const char* kind : kKinds) {
    const json& of = report[kind];
    std::printf("%-12s %4lld read, %lld damaged   %s\n", kind, of["read"].get<long long>(),
                of["damaged"].get<long long>(), text(of["path"]).c_str());
  }
  for (const json& file : report["suspect"])
    std::printf(
        "'%s' is suspect: made with weights that had changed in memory; it is not used and may be "
        "removed\n",
        text(file).c_str());
  for (const json& file : report["foreign"])
    std::printf("'%s' is not svfleet's and was not read\n", shown(text(file)).c_str());
  for (const json& problem : report["problems"]) std::printf("%s\n", text(problem).c_str());
}

}  // namespace

int verify_command(const CommandLine& line, const Config& config) {
  Crew crew(config);
  const auto [targets, manifest] = open_truth(config);
  std::string told;
  json foreign = json::array();
  if (crew.leads()) {
    const auto wanted = wanted_experts(config);
    told = json{{"all", find_all(config, manifest, targets, wanted, foreign)}, {"wanted", wanted}}
               .dump();
  }
  crew.group().broadcast(told, 0, "what is to be verified");
  const json heard = json::parse(told);
  const auto all = heard["all"].get<Pieces>();
  const Verifier verifier(config, targets, manifest,
                          heard["wanted"].get<std::map<std::string, int64_t>>());
  const auto found = crew.collect(
      {"verify", "verify", "tensors and files", int64_t(all.size())},
      [&](int64_t i, int64_t) { return verifier.problem(all[i].first, all[i].second); });
  if (!found) return kExitRequeue;
  if (!crew.leads()) return kExitFinished;

  const json report = report_of(all, *found, foreign, config);
  if (line.json)
    std::printf("%s\n", json_line(report).c_str());  // names of others may be any bytes
  else
    print(report);
  std::fflush(stdout);
  if (!report["problems"].empty())
    throw disk_error(report["problems"].size(), " of what '", line.config_file,
                     "' rests on is damaged or has changed; it is listed above");
  return kExitFinished;
}

}  // namespace svfleet
