#include "worker/threads.h"

#include <ATen/Parallel.h>

namespace svfleet {

namespace {
int process_threads = 1;
}

void set_compute_threads(int threads) {
  process_threads = threads;
  at::set_num_threads(threads);
}

// OpenMP keeps its thread count per thread, starting from OMP_NUM_THREADS.
void set_compute_threads_here() {
  at::set_num_threads(process_threads);
}

}  // namespace svfleet
