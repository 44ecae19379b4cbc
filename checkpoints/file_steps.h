// The steps of a whole write, for what puts them together in other ways than file.h (publish.h).
#pragma once

#include <string>
#include <string_view>

namespace svfleet {

inline constexpr char kTemporary[] = ".tmp-";
std::string temporary_name(const std::string& path);  // another one in each call

// Writes and syncs `bytes` under a temporary name, which is returned; the guard of `path` has been
// asked (WriteGuard). Nothing is left behind by an Error.
std::string write_temporary(const std::string& path, std::string_view bytes);
// Puts it in place and syncs the folder. `bytes` is told when the disk is full.
void rename_temporary(const std::string& temporary, const std::string& path, size_t bytes);
// A rename or a new name is safe only once its folder is synced.
void sync_parent(const std::string& path, size_t bytes);

}  // namespace svfleet
