#include "svd/openblas.h"

#include <dlfcn.h>
#include <link.h>
#include <sched.h>

#include <cstring>
#include <string>

#include "comm/error.h"

namespace svfleet {
namespace {

constexpr const char* kFile = "libscipy_openblas64_.so";

// The calling thread has one core while this lives: OpenBLAS starts a thread for each other one
// that it sees as it is loaded, and none of them would ever be used.
class OnOneCore {
 public:
  OnOneCore() {
    cpu_set_t one;
    const int here = sched_getcpu();
    known_ = here >= 0 && here < CPU_SETSIZE && sched_getaffinity(0, sizeof before_, &before_) == 0;
    if (!known_) return;
    CPU_ZERO(&one);
    CPU_SET(here, &one);
    known_ = sched_setaffinity(0, sizeof one, &one) == 0;
  }
  ~OnOneCore() {
    if (known_) sched_setaffinity(0, sizeof before_, &before_);
  }
  OnOneCore(const OnOneCore&) = delete;
  OnOneCore& operator=(const OnOneCore&) = delete;

 private:
  cpu_set_t before_;
  bool known_;
};

// Beside the package of the libtorch that this process has loaded; empty where it has none.
std::string beside_libtorch() {
  std::string found;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        const char* const name = std::strstr(info->dlpi_name, "/libtorch_cpu.so");
        if (!name) return 0;
        static_cast<std::string*>(out)->assign(info->dlpi_name, name);
        return 1;
      },
      &found);
  return found.empty() ? found : found + "/../../scipy_openblas64/lib/" + kFile;
}

void* load() {
  const OnOneCore no_threads;
  // Through the link beside the program; a copy of the program, for the jobs of a run, may have
  // only libtorch's.
  if (void* const library = dlopen(kFile, RTLD_NOW | RTLD_LOCAL)) return library;
  const std::string why = dlerror(), path = beside_libtorch();
  if (!path.empty())
    if (void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  throw user_error("OpenBLAS, which decomposes, cannot be loaded: ", why,
                   "; run scripts/setup, or add its folder to LD_LIBRARY_PATH");
}

template <class Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (!function)
    throw user_error("the OpenBLAS that was loaded has no '", name, "'; run scripts/setup");
}

OpenBlas loaded() {
  void* const library = load();
  OpenBlas blas;
  find(library, "scipy_openblas_set_num_threads64_", blas.set_num_threads);
  find(library, "scipy_openblas_get_config64_", blas.get_config);
  find(library, "scipy_cblas_dsyrk64_", blas.dsyrk);
  find(library, "scipy_cblas_sgemm64_", blas.sgemm);
  find(library, "scipy_dsytrd_64_", blas.dsytrd);
  find(library, "scipy_dstedc_64_", blas.dstedc);
  find(library, "scipy_dlarft_64_", blas.dlarft);
  find(library, "scipy_dlarfb_64_", blas.dlarfb);
  blas.set_num_threads(1);  // bits depend on their number
  return blas;
}

}  // namespace

const OpenBlas& openblas() {
  static const OpenBlas blas = loaded();
  return blas;
}

}  // namespace svfleet
