#include "worker/kernels/instruction_set.h"

namespace svfleet {
namespace {

Kernels best() {
  if (has_kernels(Kernels::kAvx512)) return Kernels::kAvx512;
  return has_kernels(Kernels::kAvx2) ? Kernels::kAvx2 : Kernels::kPlain;
}

Kernels& chosen() {
  static Kernels which = best();
  return which;
}

}  // namespace

bool has_kernels(Kernels which) {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (which == Kernels::kAvx2) return avx2;
  if (which == Kernels::kAvx512)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return true;
}

bool has_pair_kernels() {
  return has_kernels(Kernels::kAvx512) && __builtin_cpu_supports("avx512bf16");
}

bool has_matrix_instructions() {
  return has_pair_kernels() && __builtin_cpu_supports("amx-bf16");
}

Kernels kernels() {
  return chosen();
}

void set_kernels(Kernels which) {
  chosen() = which;
}

}  // namespace svfleet
