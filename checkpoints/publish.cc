#include "checkpoints/publish.h"

#include <sys/stat.h>

#include <cerrno>

#include "checkpoints/claim.h"
#include "checkpoints/file.h"
#include "checkpoints/file_error.h"
#include "checkpoints/file_steps.h"
#include "checkpoints/file_system.h"
#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {
namespace {

bool means_no_hard_links(int error) {
  return error == EPERM || error == EOPNOTSUPP || error == ENOSYS || error == EMLINK;
}

// NFS may answer EEXIST to its own second try.
bool same_file(const std::string& a, const std::string& b) {
  struct stat one, other;
  return stat(a.c_str(), &one) == 0 && stat(b.c_str(), &other) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

// Puts `temporary` in place of nothing or of a damaged file. The caller removes it in the end.
bool give_name(const std::string& temporary, const std::string& path, size_t bytes,
               const std::function<bool()>& damaged) {
  while (true) {
    const int error = file_system().link(temporary, path) == 0 ? 0 : errno;
    if (error == 0 || (error == EEXIST && same_file(temporary, path))) {
      sync_parent(path, bytes);
      return true;
    }
    const bool no_links = means_no_hard_links(error);
    if (error == ENOENT) check_guard(path);  // a new owner has removed the temporary file
    if (error != EEXIST && !no_links) write_failed(path, "link", error, bytes);
    if (error == EEXIST && !damaged()) return false;
    const Claim claim(path);
    const bool exists = file_exists(path);
    if (exists && !damaged()) return false;
    if (!exists && !no_links) continue;  // the damaged file is gone: others may link now too
    claim.verify();
    rename_temporary(temporary, path, bytes);
    return true;
  }
}

}  // namespace

bool publish_file(const std::string& path, std::string_view bytes,
                  const std::function<bool()>& damaged) {
  const InStage publishing(Stage::kDisk);
  const std::string temporary = write_temporary(path, bytes);
  struct Remove {
    const std::string& name;
    ~Remove() { file_system().unlink(name); }
  } remove{temporary};
  return give_name(temporary, path, bytes.size(), damaged);
}

}  // namespace svfleet
