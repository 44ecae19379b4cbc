// Threads inside one tensor operation: from the configuration, never from the environment, since
// the number may alter bits.
#pragma once

namespace svfleet {

void set_compute_threads(int threads);  // of the process; call first of all
void set_compute_threads_here();        // in each new thread of ours
int compute_threads();

}  // namespace svfleet
