// Files that several runs may want to make at the same time: the first to publish wins.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace svfleet {

// Gives `bytes` the name `path`, unless a whole file has it: over all processes and nodes the first
// one wins, by link(2), or under a Claim where the disk has no hard links. Where there is a file
// already, `damaged` is asked about it: a damaged one is replaced, a whole one never. Returns
// whether it was published. A crash at any moment leaves what was there, or all of `bytes`.
// Thread-safe.
bool publish_file(const std::string& path, std::string_view bytes,
                  const std::function<bool()>& damaged);

}  // namespace svfleet
