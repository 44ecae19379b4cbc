#include "svd/eigensolver.h"

#include <algorithm>
#include <memory>

#include "comm/error.h"
#include "svd/openblas.h"

namespace svfleet {
namespace {

using Int = OpenBlas::Int;

// Reflectors applied at a time. LAPACK's own 32 (dormtr) leave its products at half their speed.
constexpr Int kReflectors = 96;

std::unique_ptr<double[]> room(Int count) {
  return std::make_unique_for_overwrite<double[]>(size_t(std::max<Int>(count, 1)));
}

// G = H T H^T with T tridiagonal: its diagonal and what is beside it, and H as reflectors, whose
// vectors stand below the diagonal of `matrix`.
struct Tridiagonal {
  std::vector<double> diagonal, beside, factors;
};
Tridiagonal make_tridiagonal(Int r, double* matrix) {
  Tridiagonal t{std::vector<double>(r), std::vector<double>(r), std::vector<double>(r)};
  const Int size = 64 * r;  // LAPACK asks for 32 r
  Int info = 0;
  openblas().dsytrd("L", &r, matrix, &r, t.diagonal.data(), t.beside.data(), t.factors.data(),
                    room(size).get(), &size, &info, 1);
  SVFLEET_CHECK(info == 0, info);
  return t;
}

// T = vectors diag(t.diagonal) vectors^T, columns: divide and conquer. `beside` is used up.
void solve(const std::string& what, Int r, Tridiagonal& t, double* vectors) {
  const Int size = 1 + 4 * r + r * r, int_size = 3 + 5 * r;
  const auto work = room(size);
  std::vector<Int> int_work(int_size);
  Int info = 0;
  openblas().dstedc("I", &r, t.diagonal.data(), t.beside.data(), vectors, &r, work.get(), &size,
                    int_work.data(), &int_size, &info, 1);
  if (info != 0)
    throw make_error(kExitInternal, "the eigenproblem of '", what,
                     "' does not converge (dstedc: ", info, ")");
}

// vectors = H vectors, as dormtr does it but in wider blocks; the last reflectors come first.
void apply_reflectors(Int r, const Tridiagonal& t, double* matrix, double* vectors) {
  const OpenBlas& blas = openblas();
  const Int count = r - 1;
  const auto triangle = room(kReflectors * kReflectors), work = room(kReflectors * r);
  for (Int first = (count - 1) / kReflectors * kReflectors; first >= 0 && count > 0;
       first -= kReflectors) {
    const Int width = std::min(kReflectors, count - first), rows = count - first;
    double* const v = matrix + first * r + first + 1;
    blas.dlarft("F", "C", &rows, &width, v, &r, t.factors.data() + first, triangle.get(),
                &kReflectors, 1, 1);
    blas.dlarfb("L", "N", "F", "C", &rows, &r, &width, v, &r, triangle.get(), &kReflectors,
                vectors + first + 1, &r, work.get(), &r, 1, 1, 1, 1);
  }
}

}  // namespace

std::string eigensolver_identity() {
  std::string text = openblas().get_config();
  std::replace(text.begin(), text.end(), '\n', ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

void gram_matrix(const double* a, int64_t rows, int64_t columns, bool of_columns, double* gram) {
  // To BLAS the rows of `a` are columns.
  const int64_t r = of_columns ? columns : rows, samples = of_columns ? rows : columns;
  std::fill(gram, gram + r * r, 0.0);
  openblas().dsyrk(OpenBlas::kColumnMajor, OpenBlas::kLower,
                   of_columns ? OpenBlas::kPlain : OpenBlas::kTransposed, r, samples, 1, a, columns,
                   0, gram, r);
}

std::vector<double> symmetric_eigen(const std::string& what, int64_t r, std::vector<double> matrix,
                                    double* vectors) {
  Tridiagonal t = make_tridiagonal(r, matrix.data());
  solve(what, r, t, vectors);
  apply_reflectors(r, t, matrix.data(), vectors);
  return std::move(t.diagonal);
}

void multiply_transposed(const float* x, const float* y, int64_t r, int64_t k, float* out) {
  openblas().sgemm(OpenBlas::kColumnMajor, OpenBlas::kTransposed, OpenBlas::kPlain, r, r, k, 1, y,
                   k, x, k, 0, out, r);
}

}  // namespace svfleet
