#include "checkpoints/run_names.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <string_view>

#include "checkpoints/file_steps.h"
#include "checkpoints/journal_files.h"
#include "checkpoints/process.h"

namespace svfleet {
namespace {

constexpr const char* kFolders[] = {"bin", "checkpoints", "chunks", "experts"};

constexpr const char* kFiles[] = {
    "alive.json", "clean.json", "config.yaml" /* of earlier versions */, "effective.yaml",
    "exit.json", "job.sh", "last-line", "ledger.jsonl", "log.jsonl", "owner.json", "readings.jsonl",
    "restarts.json", "rollouts.jsonl", "run.json", "stop.json", "svfleet.log", "z.jsonl",
    // Of scripts/plot_run, scripts/quickstart and scripts/seeds.
    "curves.png", "z.png", "base.json", "base.json.key", "base.json.tmp", "evaluation.json",
    "evaluation.json.key", "evaluation.json.tmp", "seeds.json", ".seeds.json.tmp", "random"};

// Takes `part` from the front.
bool take_front(std::string_view& text, std::string_view part) {
  if (!text.starts_with(part)) return false;
  text.remove_prefix(part.size());
  return true;
}

bool has_number(std::string_view& text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  text.remove_prefix(digits);
  return digits > 0;
}

bool is_checkpoint(std::string_view name) {
  const auto of = named_step(name);
  return of && (of->rest == ".h5" || of->rest == ".h5.damaged" || of->rest == ".h5.suspect");
}

// Of scripts/seeds: a run of its own.
bool is_seed(std::string_view name) {
  return take_front(name, "seed-") && has_number(name) && name.empty();
}

}  // namespace

std::string step_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%06lld", static_cast<long long>(step));
  return name;
}

std::optional<NamedStep> named_step(std::string_view name) {
  if (!take_front(name, "step-")) return std::nullopt;
  NamedStep of;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), of.step);
  if (error != std::errc() || of.step < 0) return std::nullopt;
  of.rest = name.substr(size_t(end - name.data()));
  return of;
}

bool is_run_name(const std::string& folder, const std::string& name) {
  if (folder == "checkpoints") return is_checkpoint(name);
  if (folder == "chunks") return chunk_file(name).has_value();
  if (folder == "experts")
    return name.ends_with(".safetensors") || name.ends_with(".safetensors.suspect");
  if (folder == "bin")
    return name == "svfleet" || name == "program.json" || name == "lib" || name == "nvidia";
  return among(name, kFiles) || among(name, kFolders) || name.starts_with("owner.json.after-") ||
         name.starts_with("owner.json.left-") ||
         (name.starts_with("slurm-") && name.ends_with(".out")) || is_seed(name) ||
         name.starts_with(
             ".nfs");  // what a network disk makes of a file that is removed while open
}

bool is_run_expert(const std::string& name) {
  std::string_view text = name;
  return name == "best.safetensors" || name == "last.safetensors" || name == "final.safetensors" ||
         (take_front(text, "best-step-") && has_number(text) && text == ".safetensors");
}

std::vector<std::string> expert_folders(const std::string& run_dir) {
  const std::string experts = run_dir + "/experts";
  std::vector<std::string> folders{experts};
  for (const std::string& name : list_folder(experts))
    if (is_folder(experts + "/" + name)) folders.push_back(experts + "/" + name);
  return folders;
}

bool is_run_temporary(const std::string& folder, const std::string& name) {
  const size_t mark = name.rfind(kTemporary);
  if (mark == name.npos || !is_run_name(folder, name.substr(0, mark))) return false;
  bool is_mark = false;
  mark_is_dead(name.substr(mark + sizeof kTemporary - 1), &is_mark);
  return is_mark;
}

}  // namespace svfleet
