// The functions of OpenBLAS that decompositions use, loaded when first asked for.
//
// Not linked: as it is loaded, OpenBLAS starts a thread for each other core, which turns for 50 ms,
// in every process; libtorch's MKL, the alternative, takes 1.5 to 2 times as long on AMD.
#pragma once

#include <cstddef>
#include <cstdint>

namespace svfleet {

// As in the library's cblas.h and LAPACK, with integers of 64 bits; columns are contiguous.
struct OpenBlas {
  enum { kColumnMajor = 102, kPlain = 111, kTransposed = 112, kLower = 122 };  // CBLAS's own
  using Int = int64_t;

  void (*set_num_threads)(int);
  char* (*get_config)();
  void (*dsyrk)(int order, int uplo, int trans, Int n, Int k, double alpha, const double* a,
                Int lda, double beta, double* c, Int ldc);
  void (*sgemm)(int order, int trans_a, int trans_b, Int m, Int n, Int k, float alpha,
                const float* a, Int lda, const float* b, Int ldb, float beta, float* c, Int ldc);
  // LAPACK's, with the lengths of the texts behind.
  void (*dsytrd)(const char* uplo, const Int* n, double* a, const Int* lda, double* d, double* e,
                 double* tau, double* work, const Int* lwork, Int* info, size_t);
  void (*dstedc)(const char* compz, const Int* n, double* d, double* e, double* z, const Int* ldz,
                 double* work, const Int* lwork, Int* iwork, const Int* liwork, Int* info, size_t);
  void (*dlarft)(const char* direct, const char* storev, const Int* n, const Int* k, double* v,
                 const Int* ldv, const double* tau, double* t, const Int* ldt, size_t, size_t);
  void (*dlarfb)(const char* side, const char* trans, const char* direct, const char* storev,
                 const Int* m, const Int* n, const Int* k, const double* v, const Int* ldv,
                 const double* t, const Int* ldt, double* c, const Int* ldc, double* work,
                 const Int* ldwork, size_t, size_t, size_t, size_t);
};

// One thread a call, which is its caller's; any number of callers at a time. Error(kExitUser) where
// the library cannot be loaded.
const OpenBlas& openblas();

}  // namespace svfleet
