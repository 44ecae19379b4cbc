// Gram matrices and their eigenvectors in float64 on a CPU, by OpenBLAS.
//
// All on the calling thread; several callers at a time do not change each other's bits.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svfleet {

// What results depend on besides their arguments: "OpenBLAS 0.3.34 ... SkylakeX ...", version,
// options and the kernels that it chose for this processor (or OPENBLAS_CORETYPE did).
std::string eigensolver_identity();

// G = A^T A (of columns) or A A^T (of rows); a [rows, columns], row-major. gram [r, r], r being
// columns or rows: its lower triangle as LAPACK sees it (gram[j * r + i], i >= j); the rest is 0.
void gram_matrix(const double* a, int64_t rows, int64_t columns, bool of_columns, double* gram);

// G q_i = lambda_i q_i, lambda ascending, which are returned. matrix [r, r] is G as gram_matrix()
// leaves it; it is used up, and its memory given back. vectors [r, r] takes q_i as row i. Needs
// room for another r^2 + 134 r numbers. Error(kExitInternal) naming `what` where it does not
// converge.
std::vector<double> symmetric_eigen(const std::string& what, int64_t r, std::vector<double> matrix,
                                    double* vectors);

// out = x y^T; x and y [r, k], out [r, r], row-major.
void multiply_transposed(const float* x, const float* y, int64_t r, int64_t k, float* out);

}  // namespace svfleet
