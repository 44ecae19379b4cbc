// svfleet export: an expert for others, as a merged model, a LoRA adapter, or with a model card.
#include <spdlog/spdlog.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "comm/error.h"
#include "coordinator/commands/commands.h"
#include "coordinator/run/json_line.h"
#include "coordinator/sharing/merged_folder.h"
#include "coordinator/sharing/native_folder.h"
#include "coordinator/sharing/peft_folder.h"

namespace svfleet {
namespace {

using nlohmann::json;

json loss_json(const LoraLoss& loss) {
  return {{"matrices", loss.matrices},
          {"truncated", loss.truncated},
          {"largest_rank", loss.largest_rank},
          {"most_moved", loss.most_moved},
          {"error", loss.change.share()}};
}

json peft_report(const PeftFolder& found) {
  json report = loss_json(found.all);
  report["by_kind"] = json::object();
  for (const auto& [kind, loss] : found.by_kind) report["by_kind"][kind] = loss_json(loss);
  return report;
}

void print_loss(const char* name, const LoraLoss& loss) {
  std::printf("  %-10s %8lld %8lld %8lld %10lld %12.3g\n", name,
              static_cast<long long>(loss.matrices), static_cast<long long>(loss.most_moved),
              static_cast<long long>(loss.largest_rank), static_cast<long long>(loss.truncated),
              loss.change.share());
}

void print_peft(const PeftFolder& found) {
  std::printf("  %-10s %8s %8s %8s %10s %12s\n", "kind", "matrices", "moved", "rank", "truncated",
              "|dW-dW_k|/|dW|");
  for (const auto& [kind, loss] : found.by_kind) print_loss(kind.c_str(), loss);
  print_loss("all", found.all);
}

json merged_report(const MergedFolder& found) {
  return {{"matrices", found.changed},
          {"files", found.files},
          {"dtype", found.dtype},
          {"seconds", found.seconds}};
}

Origin named(const CommandLine& line, const Config& config) {
  Origin origin = origin_of(config.model.path);
  if (!line.share.base_model.empty()) origin = {line.share.base_model, ""};
  if (!line.share.revision.empty()) origin.revision = line.share.revision;
  return origin;
}

// Writes the folder; what --json says of it, beside what all formats have.
json write(const CommandLine& line, const OpenedExpert& opened) {
  const Origin origin = named(line, opened.config);
  if (line.share.format == "peft") {
    const PeftFolder found = write_peft(opened, origin, line.share.max_rank, line.out);
    if (!line.json) print_peft(found);
    return peft_report(found);
  }
  if (line.share.format == "native") {
    write_native(opened, origin, line.out);
    return {{"matrices", opened.expert.z.size()}};
  }
  const MergedFolder found = write_merged(opened, origin, line.out);
  if (found.dtype_changed)
    spdlog::warn(
        "the changed matrices are {}, as model.dtype is, and not of the type that they "
        "have in '{}': config.json in '{}' says so",
        found.dtype, opened.config.model.path, line.out);
  return merged_report(found);
}

}  // namespace

int export_command(const CommandLine& line, const Config& config) {
  Crew crew(config);
  const auto opened = open_expert(config, crew, line.experts.front());
  if (!opened) return kExitRequeue;
  crew.on_leader("export", [&] {
    json report = write(line, *opened);
    report.update({{"format", line.share.format},
                   {"out", line.out},
                   {"z_hash", z_hash(opened->expert)},
                   {"model_hash", opened->base.model_hash}});
    if (line.json)
      std::printf("%s\n", json_line(report).c_str());
    else
      std::printf("%s: %lld matrices changed by expert %s, in %s\n", line.share.format.c_str(),
                  report["matrices"].get<long long>(), z_hash(opened->expert).c_str(),
                  line.out.c_str());
  });
  return kExitFinished;
}

}  // namespace svfleet
