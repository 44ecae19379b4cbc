// An expert as svfleet has it, with a model card: a folder that --expert takes.
#pragma once

#include <string>

#include "coordinator/sharing/opened.h"
#include "coordinator/sharing/origin.h"

namespace svfleet {

// The expert's file, byte by byte, under a fixed name, and README.md.
void write_native(const OpenedExpert& opened, const Origin& origin, const std::string& out);

}  // namespace svfleet
