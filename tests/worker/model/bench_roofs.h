// What this machine can do at most: reading memory, and multiplying by matrices.
#pragma once

#include <nlohmann/json.hpp>

namespace svfleet {

// {"bandwidth": bytes/s, "products": [{"type", "inputs", "outputs", "rows", "ours", "libtorch"}]}:
// flops/s of all threads together, each with its own copy of the matrix and its own rows; a matrix
// that fits into a cache stays there. `seconds`: how long each is measured.
nlohmann::json roofs(int threads, double seconds);

}  // namespace svfleet
