// "Did you mean ...?"
#pragma once

#include <string>
#include <vector>

namespace svfleet {

// The known word that `word` is most likely a slip of; empty when none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& known);

}  // namespace svfleet
