// Removing files and folders (checkpoints/file.h), so that nothing of others goes with them.
#include <sys/stat.h>

#include <cerrno>
#include <ctime>

#include "checkpoints/file.h"
#include "checkpoints/file_error.h"
#include "checkpoints/file_steps.h"
#include "checkpoints/file_system.h"
#include "checkpoints/process.h"
#include "checkpoints/run_names.h"
#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {
namespace {

// Not over a file that has been given the name meanwhile.
void put_back(const std::string& moved, const std::string& path) {
  if (file_system().link(moved, path) == 0 || errno == EEXIST)
    file_system().unlink(moved);
  else if (!file_exists(path))  // a disk without hard links
    file_system().rename(moved, path);
}

// False when it is not there.
bool move_away(const std::string& path, const std::string& to) {
  if (file_system().rename(path, to) == 0) return true;
  if (errno != ENOENT) write_failed(path, "rename", errno, 0);
  return false;
}

void unlink_file(const std::string& path) {
  if (file_system().unlink(path) != 0 && errno != ENOENT) write_failed(path, "unlink", errno, 0);
}

}  // namespace

bool remove_after_look(const std::string& path, const std::string& moved,
                       const std::function<bool(const std::string& moved)>& ours) {
  if (!move_away(path, moved)) return false;
  bool remove = false;
  try {
    remove = ours(moved);
  } catch (...) {
    put_back(moved, path);
    throw;
  }
  if (remove)
    unlink_file(moved);
  else
    put_back(moved, path);
  return remove;
}

void remove_file(const std::string& path) {
  remove_files({path});
}

void remove_files(const std::vector<std::string>& paths) {
  if (paths.empty()) return;
  const InStage removing(Stage::kDisk);
  if (!check_guard(paths.front())) {
    for (const std::string& path : paths) {
      enter(Stage::kDisk);
      unlink_file(path);
    }
    return;
  }
  std::vector<std::pair<std::string, std::string>> moved;  // to, from
  try {
    for (const std::string& path : paths) {
      enter(Stage::kDisk);
      const std::string to = temporary_name(path);
      if (move_away(path, to)) moved.emplace_back(to, path);
    }
    check_guard(paths.front());
  } catch (...) {
    for (const auto& [to, path] : moved) put_back(to, path);
    throw;
  }
  for (const auto& [to, path] : moved) {
    enter(Stage::kDisk);
    unlink_file(to);
  }
}

namespace {

// One step: where two owners meet, each may remove what the other has not renamed yet.
void remove_temporary(const std::string& path) {
  check_guard(path);
  unlink_file(path);
}

// Of `svfleet stop` and `after-run`, which own no run: their writes may happen at any time.
constexpr const char* kOfOthers[] = {"stop.json", "restarts.json"};

// Whether the writer of this temporary file is certainly gone.
bool is_stale(const std::string& folder, const std::string& name, size_t mark) {
  bool is_mark = false;
  const auto dead = mark_is_dead(name.substr(mark + sizeof kTemporary - 1), &is_mark);
  if (dead || !is_mark) return dead.value_or(false);
  struct stat info;
  return stat((folder + "/" + name).c_str(), &info) == 0 &&
         time(nullptr) - info.st_mtime > 24 * 3600;
}

}  // namespace

void remove_stale_temporaries(const std::string& folder) {
  for (const std::string& name : list_folder(folder)) {
    const size_t mark = name.rfind(kTemporary);
    if (mark != name.npos && is_stale(folder, name, mark)) remove_temporary(folder + "/" + name);
  }
}

void remove_run_temporaries(const std::string& run_dir) {
  const auto clear = [](const std::string& path, const char* folder) {
    for (const std::string& name : list_folder(path)) {
      if (!is_run_temporary(folder, name)) continue;
      const size_t mark = name.rfind(kTemporary);
      if (!among(name.substr(0, mark), kOfOthers) || is_stale(path, name, mark))
        remove_temporary(path + "/" + name);
    }
  };
  clear(run_dir, "");
  clear(run_dir + "/checkpoints", "checkpoints");
  clear(run_dir + "/chunks", "chunks");
  for (const std::string& folder : expert_folders(run_dir)) clear(folder, "experts");
}

}  // namespace svfleet
