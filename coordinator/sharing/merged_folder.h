// The adapted model as a Hugging Face folder, for programs that know nothing of experts.
#pragma once

#include <cstdint>
#include <string>

#include "coordinator/sharing/opened.h"
#include "coordinator/sharing/origin.h"

namespace svfleet {

struct MergedFolder {
  int64_t changed = 0;         // matrices
  int64_t files = 0;           // of weights, as many as the base has
  double seconds = 0;          // of merging and writing
  std::string dtype;           // of the changed matrices
  bool dtype_changed = false;  // other than the base's: config.json names the new one
};

// W' of each adapted matrix, bit for bit what the engine multiplies by in merged form (its keyed
// rounding included), in model.dtype; every other tensor byte by byte, in the same files as in the
// base; config, tokenizer and the like copied. One tensor beside the base is in memory at a time.
// Error(kExitRequeue) when a stop was asked for; nothing is left behind then.
MergedFolder write_merged(const OpenedExpert& opened, const Origin& origin, const std::string& out);

}  // namespace svfleet
