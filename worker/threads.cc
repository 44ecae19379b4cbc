#include "worker/threads.h"

#include <ATen/Parallel.h>
#include <omp.h>

namespace svfleet {

namespace {
int process_threads = 1;
}

void set_compute_threads(int threads) {
  process_threads = threads;
  set_compute_threads_here();
}

// OpenMP keeps its thread count per thread, starting from OMP_NUM_THREADS. There may be two of it:
// libtorch's, and that of our kernels and oneDNN.
void set_compute_threads_here() {
  at::set_num_threads(process_threads);
  omp_set_num_threads(process_threads);
}

int compute_threads() {
  return process_threads;
}

}  // namespace svfleet
