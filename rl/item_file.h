// Files that people have where a task wants JSONL.
#pragma once

#include <string>
#include <string_view>

namespace svfleet {

// Error(kExitUser) where `bytes`, of the file `path`, are plainly of another kind: compressed,
// Parquet, UTF-16, or JSON over several lines. Says what to do.
void refuse_other_format(const std::string& path, std::string_view bytes);

}  // namespace svfleet
