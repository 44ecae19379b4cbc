#include "checkpoints/out_folder.h"

#include <cerrno>
#include <filesystem>

#include "checkpoints/file.h"
#include "checkpoints/file_error.h"
#include "checkpoints/file_steps.h"
#include "comm/error.h"

namespace svfleet {
namespace {

[[noreturn]] void refuse(const std::string& path, const char* what) {
  throw user_error("'", path, "' ", what, "; give a folder that is not there yet");
}

}  // namespace

OutFolder::OutFolder(const std::string& path) : path_(resolved_path(path)) {
  if (file_exists(path_)) {
    if (!is_folder(path_)) refuse(path, "is a file");
    if (!list_folder(path_).empty()) refuse(path, "is a folder that is not empty");
  }
  const std::string name = temporary_name(path_);
  make_folder(name);
  temporary_ = name;
}

OutFolder::~OutFolder() {
  std::error_code none;  // what is left behind has a temporary name
  if (!published_ && !temporary_.empty()) std::filesystem::remove_all(temporary_, none);
}

void OutFolder::write(const std::string& name, std::string_view bytes) const {
  write_file_atomic(file(name), bytes);
}

void OutFolder::publish() {
  sync_parent(file(""), 0);  // its own entries
  if (file_system().rename(temporary_, path_) != 0) {
    if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR)
      refuse(path_, "has been made by somebody else meanwhile");
    write_failed(path_, "rename", errno, 0);
  }
  published_ = true;
  sync_parent(path_, 0);
}

}  // namespace svfleet
