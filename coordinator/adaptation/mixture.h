// A mixture as an ordinary expert file that says how it was made.
#pragma once

#include "checkpoints/expert.h"
#include "coordinator/adaptation/first_pass.h"

namespace svfleet {

// The recipe in the metadata (docs/formats.md) names experts by label and z_hash, never by path.
Expert mixture_expert(const Base& base, const OpenedSet& opened, const FirstPass& pass,
                      const Task& shots, uint64_t seed);

}  // namespace svfleet
