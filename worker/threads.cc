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

// libtorch has small things to do between our kernels, and its threads would be in the way of those
// that our kernels have (worker/kernels/team.h). OpenMP keeps its number per thread, starting from
// OMP_NUM_THREADS; there may be two of it, libtorch's and oneDNN's, which is told with each product.
void set_compute_threads_here() {
  at::set_num_threads(1);
  omp_set_num_threads(1);
}

int compute_threads() {
  return process_threads;
}

}  // namespace svfleet
