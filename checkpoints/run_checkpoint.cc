#include "checkpoints/run_checkpoint.h"

#include <algorithm>
#include <exception>

#include "checkpoints/file.h"
#include "checkpoints/run_names.h"
#include "comm/error.h"

namespace svfleet {
namespace {

// Steps with a file, newest first, and the file's name.
std::vector<std::pair<int64_t, std::string>> checkpoint_files(const std::string& run_dir) {
  std::vector<std::pair<int64_t, std::string>> files;
  for (const std::string& name : list_folder(run_dir + "/checkpoints"))
    if (const auto of = named_step(name); of && of->rest == ".h5")
      files.emplace_back(of->step, name);
  std::sort(files.rbegin(), files.rend());
  return files;
}

}  // namespace

std::string checkpoint_path(const std::string& run_dir, int64_t step) {
  return run_dir + "/checkpoints/" + step_name(step) + ".h5";
}

void save_checkpoint(const std::string& run_dir, const RunState& state) {
  const std::string image = encode_state(state);
  make_folder(run_dir + "/checkpoints");
  write_file_atomic(checkpoint_path(run_dir, state.step), image);
}

std::vector<int64_t> checkpoint_steps(const std::string& run_dir) {
  std::vector<int64_t> steps;
  for (const auto& [step, name] : checkpoint_files(run_dir)) steps.push_back(step);
  std::reverse(steps.begin(), steps.end());
  return steps;
}

RunState load_checkpoint(const std::string& run_dir, int64_t step) {
  const std::string path = checkpoint_path(run_dir, step);
  RunState state = decode_state(read_file(path), path);
  if (state.step != step)
    throw disk_error("'", path, "' holds step ", state.step, ", not the step of its name");
  return state;
}

NewestCheckpoint load_newest_checkpoint(const std::string& run_dir) {
  NewestCheckpoint newest;
  for (const auto& [step, name] : checkpoint_files(run_dir)) {
    const std::string path = run_dir + "/checkpoints/" + name;
    std::string image;
    try {
      image = read_file(path);
    } catch (const Error& error) {
      if (!newest.unread) newest.unread = std::current_exception();
      newest.damaged.push_back(error.what());
      continue;
    }
    try {
      RunState state = decode_state(image, path);
      if (state.step != step)
        throw disk_error("'", path, "' holds step ", state.step, ", not the step of its name");
      newest.state = std::move(state);
      break;
    } catch (const Error& error) {
      // A file of a newer svfleet is whole: falling back behind it would lose its steps unasked.
      if (error.code() != kExitDisk) throw;
      newest.damaged.push_back(error.what());
      newest.wrong.push_back(path);
    }
  }
  return newest;
}

void prune_checkpoints(const std::string& run_dir, int keep, const std::vector<int64_t>& best,
                       int64_t clean_step) {
  int good = 0;
  bool clean_found = clean_step < 0;
  std::vector<int64_t> wanted = best;
  for (const auto& [step, name] : checkpoint_files(run_dir)) {
    const std::string path = run_dir + "/checkpoints/" + name;
    const bool among_last = good < std::max(keep, 1),
               maybe_clean = !clean_found && step <= clean_step;
    if (!among_last && !maybe_clean) {
      if (std::find(wanted.begin(), wanted.end(), step) == wanted.end()) remove_file(path);
      continue;
    }
    // A damaged file counts for nothing: else a damaged newest one would push out the good ones.
    try {
      const RunState state = decode_state(read_file(path), path);
      if (state.step != step) continue;
      ++good;
      if (maybe_clean)
        for (const int64_t its_best : best_steps(state)) wanted.push_back(its_best);
      clean_found = clean_found || maybe_clean;
    } catch (const Error&) {
    }
  }
}

}  // namespace svfleet
