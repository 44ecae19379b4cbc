// What `svfleet hash PATH` prints: one hash of what a file or folder holds, whatever its times,
// its HDF5 layout or its place.
#pragma once

#include <string>

namespace svfleet {

// An expert file (z and names), another safetensors file or Hugging Face model folder (tensors), a
// checkpoint (state_hash), a factor store (its matrices), a run folder (state_hash of its newest
// good checkpoint). Anything else is an Error(kExitUser) that lists these.
std::string hash_path(const std::string& path);

}  // namespace svfleet
