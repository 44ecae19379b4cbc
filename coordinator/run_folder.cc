#include "coordinator/run_folder.h"

#include <unistd.h>

#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>
#include <random>

#include "checkpoints/clean.h"
#include "checkpoints/file.h"
#include "cluster/slurm.h"
#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;

std::string random_id() {
  std::random_device device;
  char text[33];
  std::snprintf(text, sizeof text, "%08x%08x%08x%08x", device(), device(), device(), device());
  return text;
}

std::string open_run(const std::string& path, const Config& config) {
  make_folder(path);
  const std::string file = path + "/run.json";
  if (file_exists(file)) {
    json run = json::parse(read_file(file), nullptr, false);
    if (run.is_object() && run.contains("run_id")) return run["run_id"].get<std::string>();
    throw user_error("'", file, "' is not a run's description; choose another run_dir, or remove ",
                     "it if the folder holds nothing of value");
  }
  std::string id = random_id();
  write_file_atomic(path + "/config.yaml", print_config(config));
  write_file_atomic(file,
                    json{{"format", "svfleet-run"}, {"version", 1}, {"run_id", id}}.dump(1) + "\n");
  return id;
}

}  // namespace

RunFolder::RunFolder(const Config& config, Crew& crew) : path_(config.run_dir) {
  std::string told;
  if (crew.leads()) {
    const SlurmJob slurm = slurm_job();
    OwnerIdentity me;
    me.host = crew.group().host();
    me.pid = getpid();
    me.job = slurm.job;
    me.restarts = slurm.restarts;
    me.cluster = slurm.cluster;
    owner_ = std::make_unique<Owner>(Owner::take(path_, me, job_ended));
    token_ = owner_->identity().token;
    guard();
    owner_->shut_out_others();
    run_id_ = open_run(path_, config);
    told = token_ + "\n" + run_id_;
  }
  crew.group().broadcast(told, 0, "open run folder");
  token_ = told.substr(0, told.find('\n'));
  run_id_ = told.substr(told.find('\n') + 1);
  if (!crew.leads()) guard();
  // A folder that is local to each node would lose chunks silently.
  bool same = is_owner(path_, token_);
  for (int tries = 0; tries < 50 && !same; ++tries) {  // shared disks may lag
    usleep(100'000);
    same = is_owner(path_, token_);
  }
  std::vector<std::string> seen =
      crew.group().gather(same ? "" : crew.group().host(), "see folder");
  std::string blind;
  for (size_t rank = 0; rank < seen.size(); ++rank)
    if (!seen[rank].empty())
      blind += (blind.empty() ? "" : ", ") + std::to_string(rank) + " (" + seen[rank] + ")";
  crew.group().broadcast(blind, 0, "see folder");
  if (!blind.empty())
    throw user_error("run_dir '", path_, "' is not the same folder on ranks ", blind,
                     " as on rank 0; put it on a disk that all nodes share");
}

void RunFolder::guard() {
  guard_.emplace(path_, [this] { verify_owner(); });
}

void RunFolder::verify_owner() const {
  svfleet::verify_owner(path_, token_);
}

std::string RunFolder::expert_path(const std::string& name) const {
  return path_ + "/experts/" + name + ".safetensors";
}

std::optional<RunState> RunFolder::newest(Crew& crew) const {
  std::string image;
  if (crew.leads()) {
    for (const std::string& path : finish_setting_aside(path_))
      spdlog::warn("set aside, as made with weights that had changed in memory: '{}'", path);
    NewestCheckpoint found = load_newest_checkpoint(path_);
    for (const std::string& line : found.damaged) spdlog::warn("checkpoint passed over: {}", line);
    if (found.state) {
      // Set aside: what counts as progress from here on begins at the good one.
      for (const std::string& path : found.wrong) rename_file(path, path + ".damaged");
      image = encode_state(*found.state);
    } else if (!found.damaged.empty()) {
      throw disk_error("all ", found.damaged.size(), " checkpoints in '", path_,
                       "/checkpoints' are damaged; restore one of them, or choose another run_dir ",
                       "to start again from nothing");
    } else if (is_folder(path_ + "/chunks")) {  // made after the first checkpoint
      throw disk_error("the checkpoints of the run in '", path_, "' have been removed; restore ",
                       "one, or choose another run_dir to start again from nothing");
    }
  }
  crew.group().broadcast(image, 0, "broadcast checkpoint");
  if (image.empty()) return std::nullopt;
  return decode_state(image, "the checkpoint that rank 0 sent");
}

}  // namespace svfleet
