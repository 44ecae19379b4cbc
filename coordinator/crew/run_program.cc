#include "coordinator/crew/run_program.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/file_steps.h"
#include "checkpoints/hash.h"
#include "checkpoints/run_checkpoint.h"
#include "cluster/slurm.h"
#include "comm/error.h"
#include "coordinator/run/account.h"
#include "coordinator/run/identity.h"
#include "coordinator/run/progress.h"
#include "worker/libtorch.h"

namespace svfleet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string copy_of(const std::string& run_dir) {
  return run_dir + "/bin/svfleet";
}
std::string record_of(const std::string& run_dir) {
  return run_dir + "/bin/program.json";
}

RunProgram this_program() {
  return {program_hash(), torch_build(), loaded_libraries()};
}

std::optional<RunProgram> recorded(const std::string& run_dir) {
  if (!file_exists(record_of(run_dir))) return std::nullopt;
  try {
    const json file = json::parse(read_file(record_of(run_dir)));
    return RunProgram{file.at("hash"), file.at("torch"), file.at("libraries")};
  } catch (const json::exception&) {
    throw disk_error("'", record_of(run_dir), "' is damaged; remove '", run_dir,
                     "/bin' and submit again with the program of the run");
  }
}

// A job of an earlier submission lives, or nobody can say that it does not.
bool job_lives(const std::string& run_dir) {
  const std::string job = read_account(run_dir).last_job;
  return !job.empty() && !job_ended(job);
}

// Of torch_identity(): "2.11.0 HASH 451209129". What is between depends on the processor too.
std::string version_and_size(const std::string& torch) {
  return torch.substr(0, torch.find(' ')) + " (" + torch.substr(torch.rfind(' ') + 1) + " bytes)";
}

// A run that no submit has begun: its jobs would end at their start.
void check_begun_by_hand(const std::string& run_dir, const RunProgram& mine) {
  const NewestCheckpoint newest = load_newest_checkpoint(run_dir);
  if (!newest.state) return;
  const json identity = json::parse(newest.state->identity, nullptr, false);
  if (!identity.is_object()) return;
  const auto compare = [&](const char* what, const std::string& then, const std::string& here) {
    if (then != here)
      throw user_error("the run in '", run_dir, "' was begun with another ", what, ": ", then,
                       " then, ", here, " here; submit with that one, or accept other bits with ",
                       "--allow-different-hardware");
  };
  compare("program", identity.value("program", "unknown"), mine.hash);
  compare("libtorch", version_and_size(identity.value("torch", "unknown")),
          version_and_size(torch_identity()));
}

bool whole(const std::string& run_dir, const RunProgram& kept) {
  return file_exists(copy_of(run_dir)) && hash_bytes(read_file(copy_of(run_dir))) == kept.hash;
}

void make_executable(const std::string& path) {
  if (access(path.c_str(), X_OK) == 0) return;
  if (chmod(path.c_str(), 0755) != 0 || access(path.c_str(), X_OK) != 0)
    throw user_error("'", path,
                     "', which the jobs are to start, cannot be executed: ", std::strerror(errno),
                     "; is the disk mounted noexec? choose another run_dir");
}

std::string difference(const RunProgram& then, const RunProgram& now, const std::string& run_dir) {
  if (then.torch != now.torch)
    return "libtorch has changed since the run in '" + run_dir + "' was submitted: " + then.torch +
           " then, " + now.torch + " now; restore it, or begin another run";
  if (then.hash != now.hash)
    return "the run in '" + run_dir + "' was submitted with another program: " + then.hash +
           " then, " + now.hash + " now; start '" + copy_of(run_dir) + "' instead";
  return "";
}

}  // namespace

RunProgram choose_program(const std::string& run_dir, bool allow_different_hardware) {
  const RunProgram mine = this_program();
  const auto kept = recorded(run_dir);
  const bool begun = !checkpoint_steps(run_dir).empty();
  if (!kept) {
    if (begun && !allow_different_hardware) check_begun_by_hand(run_dir, mine);
    return mine;
  }
  if (kept->hash == mine.hash && kept->torch == mine.torch) return mine;  // as it is found today
  if (!begun && !job_lives(run_dir)) return mine;
  if (kept->torch != mine.torch)
    throw user_error("libtorch is another than that of the run in '", run_dir,
                     "', which goes on: ", kept->torch, " there, ", mine.torch,
                     " here; submit with '", copy_of(run_dir),
                     "' where the old one still is, or choose another run_dir");
  if (!whole(run_dir, *kept))
    throw disk_error("'", copy_of(run_dir), "' is damaged; submit with the program that it was ",
                     "copied from, whose hash is ", kept->hash);
  return *kept;
}

namespace {

// `name` beside the copy of the program, where it looks for libraries when nobody tells it where
// they are: a start by hand. Jobs are told, so a disk without links is no hindrance.
void link_beside(const std::string& run_dir, const char* name, const fs::path& to) {
  std::error_code error;
  if (!fs::is_directory(to, error)) return;
  const std::string path = run_dir + "/bin/" + name, temporary = temporary_name(path);
  if (symlink(to.c_str(), temporary.c_str()) == 0 && rename(temporary.c_str(), path.c_str()) != 0)
    unlink(temporary.c_str());
}

void link_libraries(const std::string& run_dir, const RunProgram& program) {
  for (const std::string& file : program.libraries) {
    const fs::path folder = fs::path(file).parent_path();
    if (fs::path(file).filename() != "libtorch_cpu.so") continue;
    link_beside(run_dir, "lib", folder);
    link_beside(run_dir, "nvidia", folder.parent_path().parent_path() / "nvidia");
  }
}

}  // namespace

void keep_program(const std::string& run_dir, const RunProgram& program) {
  const std::string path = copy_of(run_dir);
  make_folder(run_dir + "/bin");
  remove_stale_temporaries(run_dir + "/bin");
  if (!whole(run_dir, program)) {
    SVFLEET_CHECK(program.hash == program_hash(), program.hash, " is not ", program_hash());
    write_file_atomic(path, read_file("/proc/self/exe"));
  }
  make_executable(path);
  link_libraries(run_dir, program);
  write_file_atomic(record_of(run_dir), json{{"format", "svfleet-program"},
                                             {"version", 1},
                                             {"hash", program.hash},
                                             {"torch", program.torch},
                                             {"libraries", program.libraries}}
                                                .dump(1) +
                                            "\n");
}

std::vector<std::string> library_folders(const RunProgram& program) {
  std::vector<std::string> folders;
  for (const std::string& file : program.libraries) {
    const std::string folder = fs::path(file).parent_path().lexically_normal().string();
    const bool of_system = folder.rfind("/lib", 0) == 0 || folder.rfind("/usr/lib", 0) == 0;
    if (of_system || folder[0] != '/' || folder.find(':') != std::string::npos) continue;
    if (std::find(folders.begin(), folders.end(), folder) == folders.end())
      folders.push_back(folder);
  }
  return folders;
}

void check_program(const std::string& run_dir, Crew& crew, bool allow_different_hardware) {
  std::string differs;
  if (crew.leads())
    if (const auto kept = recorded(run_dir)) differs = difference(*kept, this_program(), run_dir);
  crew.group().broadcast(differs, 0, "compare with the program that was submitted");
  if (differs.empty()) return;
  if (!allow_different_hardware) throw user_error(differs);
  if (crew.leads()) spdlog::warn("{}", differs);
}

}  // namespace svfleet
