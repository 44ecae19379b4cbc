// Threads inside one operation of our kernels: from the configuration, never from the environment,
// since with oneDNN the number may alter bits. libtorch's own have one.
#pragma once

namespace svfleet {

void set_compute_threads(int threads);  // of the process; call first of all
void set_compute_threads_here();        // in each new thread of ours
int compute_threads();

}  // namespace svfleet
