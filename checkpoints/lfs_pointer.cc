#include "checkpoints/lfs_pointer.h"

#include "comm/error.h"

namespace svfleet {

void refuse_lfs_pointer(const std::string& path, std::string_view bytes) {
  if (bytes.starts_with("version https://git-lfs.github.com/spec/"))
    throw user_error("'", path, "' is a Git LFS pointer, not the file itself; run 'git lfs pull' ",
                     "in its repository, or download the file");
}

}  // namespace svfleet
