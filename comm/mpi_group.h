// The group of all ranks of an MPI job. Use make_world() of comm/group.h.
#pragma once

#include <memory>

#include "comm/group.h"

namespace svfleet {

// Collective over the job; once per process. From here on, a process that ends without destroying
// the group normally (an exception in flight, a failed collective, std::exit) ends the whole job
// with its own exit status.
std::unique_ptr<Group> make_mpi_group(const GroupOptions& options);

}  // namespace svfleet
