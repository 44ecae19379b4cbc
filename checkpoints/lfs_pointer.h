// A repository that was cloned without Git LFS has small texts in place of its large files.
#pragma once

#include <string>
#include <string_view>

namespace svfleet {

// Error(kExitUser) when the file at `path`, which begins with `bytes`, is such a text.
void refuse_lfs_pointer(const std::string& path, std::string_view bytes);

}  // namespace svfleet
