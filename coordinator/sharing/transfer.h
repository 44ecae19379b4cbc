// The z of one model on another: by weight name, and within a matrix by order of singular values,
// the largest first, as factors have them. Nothing says that this must work.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "svd/target.h"
#include "worker/model/architecture.h"

namespace svfleet {

using NamedZ = std::map<std::string, std::vector<float>>;

// The matrices of `z`, as they are in a model, with offsets of a flat z of them alone.
// Error(kExitUser) with the names of those that it does not have, or has in another size.
std::vector<Target> fitting_targets(const NamedZ& z, const Architecture& architecture,
                                    const std::string& expert, const std::string& model);

}  // namespace svfleet
