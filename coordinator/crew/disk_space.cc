#include "coordinator/crew/disk_space.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "checkpoints/file.h"
#include "checkpoints/journal_files.h"
#include "checkpoints/run_checkpoint.h"
#include "comm/error.h"
#include "coordinator/config/targets.h"
#include "svd/store.h"

namespace svfleet {
namespace {

// Measured on a tiny model, rounded up: HDF5's own, settings and names, beside the numbers.
constexpr uint64_t kCheckpointExtra = 24 << 10, kChunkExtra = 8 << 10, kFactorExtra = 8 << 10;
constexpr uint64_t kExtraPerMatrix = 200;
// The logs of a long run are no reason to refuse its start.
constexpr uint64_t kMostText = 16 << 20;

// The folder that will hold `path`, or it itself.
std::string existing(const std::string& path) {
  std::filesystem::path at = std::filesystem::absolute(path);
  std::error_code ignored;
  while (!std::filesystem::exists(at, ignored) && at.has_parent_path() && at != at.parent_path())
    at = at.parent_path();
  return at.string();
}

bool same_disk(const std::string& a, const std::string& b) {
  struct stat one, other;
  return stat(a.c_str(), &one) == 0 && stat(b.c_str(), &other) == 0 && one.st_dev == other.st_dev;
}

FilesThere files_there(const std::string& run_dir, int64_t step) {
  FilesThere there;
  there.checkpoints = int64_t(checkpoint_steps(run_dir).size());
  there.chunks = count_chunks(run_dir, step);
  for (const std::string& name : list_folder(run_dir + "/experts"))
    there.experts += name.ends_with(".safetensors");
  return there;
}

uint64_t missing_factors(const Config& config, const std::vector<Target>& targets) {
  if (!Core::is_decomposed(core_of(config).kind)) return 0;
  const FactorStore store(store_folder(config));
  FactorStore::Manifest manifest;
  const bool begun = store.load_manifest(&manifest);
  std::vector<Target> missing;
  for (const Target& target : targets)
    if (!file_exists(store.path(target)))
      missing.push_back(begun ? in_version(target, manifest.version) : target);
  return store_needs(missing, config.svd.storage == "float32" ? 4 : 2);
}

void check_disk(const std::string& what, const std::string& folder, uint64_t need,
                const std::string& host) {
  const std::string line = shortage(what, folder, need, free_bytes(folder), host);
  if (!line.empty()) throw Error(kExitDisk, line);
}

int64_t text_per_step(const Config& config, int64_t matrices) {
  int64_t longest = 0;
  for (const TaskSpec& task : config.tasks)
    longest = std::max<int64_t>(longest, task.max_new_tokens);
  return 3000 + 120 * matrices + config.train.rollout_samples * (1000 + 8 * longest);
}

// Of a run of one; of several, for each.
uint64_t expert_needs(const Config& config, const std::vector<Target>& targets, int64_t start_step,
                      bool fresh) {
  const TrainConfig& train = config.train;
  WritingPlan plan;
  plan.parameters = Core(core_of(config), targets, {}).coefficients();
  plan.matrices = int64_t(targets.size());
  plan.steps_left = std::max<int64_t>(0, train.steps - start_step);
  plan.fresh = fresh;
  plan.keep_checkpoints = train.keep_checkpoints;
  plan.checkpoint_every = train.checkpoint_every;
  plan.chunks_per_step = train.chunks_per_step();
  plan.text_per_step = text_per_step(config, plan.matrices);
  return run_needs(plan, files_there(config.run_dir, start_step));
}

}  // namespace

void check_disks(const Config& config, int64_t start_step, bool fresh, const std::string& host) {
  const Architecture architecture = read_architecture(config.model.path, config.model.max_length);
  const std::vector<Target> targets = targets_of(config, architecture);
  uint64_t run = 0;
  for (const Config& own : runs_of_one(config))
    run += expert_needs(own, targets, start_step, fresh);
  const uint64_t factors = missing_factors(config, targets);
  const std::string store = existing(store_folder(config));
  if (same_disk(store, config.run_dir))
    run += factors;
  else
    check_disk("factor store", store, factors, host);
  check_disk("run folder", config.run_dir, run, host);
}

void check_store_disk(const Config& config, const std::string& host) {
  const std::vector<Target> targets =
      targets_of(config, read_architecture(config.model.path, config.model.max_length));
  check_disk("factor store", existing(store_folder(config)), missing_factors(config, targets),
             host);
}

std::string size_text(uint64_t bytes) {
  char text[32];
  const double gib = double(bytes) / double(1 << 30);
  if (gib >= 1)
    std::snprintf(text, sizeof text, "%.1f GiB", gib);
  else if (bytes < 1 << 20)
    std::snprintf(text, sizeof text, "%.0f KiB", double(bytes) / 1024);
  else
    std::snprintf(text, sizeof text, "%.1f MiB", double(bytes) / double(1 << 20));
  return text;
}

uint64_t run_needs(const WritingPlan& plan, const FilesThere& there) {
  const int64_t saves = plan.steps_left + (plan.fresh ? 1 : 0);
  if (saves == 0) return 0;
  const uint64_t checkpoint =
      12 * plan.parameters + kCheckpointExtra + kExtraPerMatrix * plan.matrices;
  const uint64_t chunk = 4 * plan.parameters + kChunkExtra;
  const uint64_t expert = 4 * plan.parameters + kExtraPerMatrix * plan.matrices;
  // The last ones, the best one, and the new one, which is written before an old one goes. Where
  // the frozen weights are looked at in long rounds, a clean one and the best of its time too.
  const int64_t most = plan.keep_checkpoints + (plan.fresh ? 4 : 2);
  const int64_t checkpoints = std::min(saves, std::max<int64_t>(1, most - there.checkpoints));
  // The journal is emptied at each checkpoint.
  const int64_t journal_steps = std::min(plan.checkpoint_every, plan.steps_left);
  const int64_t chunks = std::max<int64_t>(0, journal_steps * plan.chunks_per_step - there.chunks);
  const int64_t experts = std::max<int64_t>(1, 3 - there.experts);  // final, best, last
  const uint64_t text = uint64_t(plan.text_per_step);
  return checkpoint * checkpoints + chunk * chunks + expert * experts +
         std::min(kMostText, text * plan.steps_left);
}

uint64_t store_needs(const std::vector<Target>& missing, int64_t bytes_per_number) {
  uint64_t bytes = 0;
  for (const Target& target : missing) {
    const uint64_t r = target.length();
    bytes += uint64_t(target.basis_rows()) * r * bytes_per_number + 8 * r + kFactorExtra;
  }
  return bytes;
}

std::string shortage(const std::string& what, const std::string& folder, uint64_t need,
                     uint64_t free, const std::string& host) {
  if (need <= free) return "";
  return "the disk of the " + what + " is too full: " + size_text(need) +
         " are still to be written below '" + folder + "', " + size_text(free) +
         " are free (seen from host " + host +
         "); free space and start again: nothing saved so far is lost";
}

}  // namespace svfleet
