#include "worker/threads.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <dlfcn.h>
#include <sys/stat.h>

#include "checkpoints/hash.h"

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

std::string torch_identity() {
  std::string text = std::string(TORCH_VERSION_TEXT) + " " + hash_bytes(at::show_config());
  Dl_info info;
  struct stat file;
  if (dladdr(reinterpret_cast<const void*>(&at::show_config), &info) && info.dli_fname &&
      stat(info.dli_fname, &file) == 0)
    text += " " + std::to_string(file.st_size);
  return text;
}

}  // namespace svfleet
