// Which libtorch this process runs with, and where all its libraries come from.
#pragma once

#include <string>
#include <vector>

namespace svfleet {

// Version, build options and size of the libtorch that runs: another one may give other bits. It
// differs between kinds of processors.
std::string torch_identity();

// "2.11.0 (build 274ade0e6dcd7e46)": of the libtorch that is loaded, not of the one that the
// program was built with; the same on every machine.
std::string torch_build();

// The files of all libraries that are loaded, in the order of loading.
std::vector<std::string> loaded_libraries();

}  // namespace svfleet
