#include "coordinator/run_folder.h"

#include <unistd.h>

#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>
#include <random>

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
  const std::string marker = path_ + "/.shared";
  std::string told;
  if (crew.leads()) {
    make_folder(path_);
    const SlurmJob slurm = slurm_job();
    OwnerIdentity me;
    me.host = crew.group().host();
    me.pid = getpid();
    me.job = slurm.job;
    me.restarts = slurm.restarts;
    owner_ = std::make_unique<Owner>(Owner::take(path_, me, job_ended));
    run_id_ = open_run(path_, config);
    remove_stale_temporaries(path_ + "/checkpoints");
    remove_stale_temporaries(path_ + "/chunks");
    told = random_id();
    write_file_atomic(marker, told);
    told += "\n" + run_id_;
  }
  crew.group().broadcast(told, 0, "open run folder");
  const std::string token = told.substr(0, told.find('\n'));
  run_id_ = told.substr(told.find('\n') + 1);
  // A folder that is local to each node would lose chunks silently.
  bool same = false;
  for (int tries = 0; tries < 50 && !same; ++tries) {  // shared disks may lag
    if (tries) usleep(100'000);
    same = file_exists(marker) && read_file(marker) == token;
  }
  std::vector<std::string> seen =
      crew.group().gather(same ? "" : crew.group().host(), "see folder");
  std::string blind;
  for (size_t rank = 0; rank < seen.size(); ++rank)
    if (!seen[rank].empty())
      blind += (blind.empty() ? "" : ", ") + std::to_string(rank) + " (" + seen[rank] + ")";
  if (crew.leads()) remove_file(marker);  // everyone has looked; a finished run stays as it was
  crew.group().broadcast(blind, 0, "see folder");
  if (crew.leads()) remove_file(marker);
  if (!blind.empty())
    throw user_error("run_dir '", path_, "' is not the same folder on ranks ", blind,
                     " as on rank 0; put it on a disk that all nodes share");
}

std::string RunFolder::expert_path(const std::string& name) const {
  return path_ + "/experts/" + name + ".safetensors";
}

std::optional<RunState> RunFolder::newest(Crew& crew) const {
  std::string image;
  if (crew.leads()) {
    NewestCheckpoint found = load_newest_checkpoint(path_);
    for (const std::string& line : found.damaged) spdlog::warn("checkpoint passed over: {}", line);
    if (found.state)
      image = encode_state(*found.state);
    else if (!found.damaged.empty())
      throw disk_error("all ", found.damaged.size(), " checkpoints in '", path_,
                       "/checkpoints' are damaged; restore one of them, or choose another run_dir ",
                       "to start again from nothing");
    else if (is_folder(path_ + "/chunks"))  // made after the first checkpoint
      throw disk_error("the checkpoints of the run in '", path_, "' have been removed; restore ",
                       "one, or choose another run_dir to start again from nothing");
  }
  crew.group().broadcast(image, 0, "broadcast checkpoint");
  if (image.empty()) return std::nullopt;
  return decode_state(image, "the checkpoint that rank 0 sent");
}

void RunFolder::verify_owner() const {
  if (owner_) owner_->verify();
}

}  // namespace svfleet
