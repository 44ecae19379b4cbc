// The names that svfleet gives to what it writes in a run folder. All else there is somebody else's
// and is left alone.
#pragma once

#include <string>

namespace svfleet {

// `folder` below the run folder: "" itself, "bin", "checkpoints", "chunks" or "experts".
bool is_run_name(const std::string& folder, const std::string& name);
// Of "experts": one that a run writes by itself. The others that is_run_name() knows there are what
// people keep beside it.
bool is_run_expert(const std::string& name);
// Whether `name` is one of these with the ending that a process gives it while it writes or removes
// it (process_mark()).
bool is_run_temporary(const std::string& folder, const std::string& name);

}  // namespace svfleet
