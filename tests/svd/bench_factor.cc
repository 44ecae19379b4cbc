// Times decompose() by step, in CPU milliseconds of one thread, beside torch.linalg.svd in float32
// of the same matrix in the same run. Built by hand: ninja bench_svd_factor.
//   bench_svd_factor ROWS COLUMNS [times [svd_times]]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "svd/eigensolver.h"
#include "svd/factor.h"

namespace svfleet {
namespace {

double cpu_ms() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return 1e3 * double(t.tv_sec) + 1e-6 * double(t.tv_nsec);
}

void keep_least(std::map<std::string, double>& least, const std::string& what, double since) {
  const double took = cpu_ms() - since;
  const auto [at, added] = least.emplace(what, took);
  if (!added) at->second = std::min(at->second, took);
}

double residual = 0, skew = 0;  // the most that the check has seen

// The steps of decompose() one by one, for a matrix in right form.
void steps(const at::Tensor& a, std::map<std::string, double>& least) {
  const int64_t m = a.size(0), r = a.size(1);
  double begin = cpu_ms();
  std::vector<double> gram(r * r);
  gram_matrix(a.data_ptr<double>(), m, r, true, gram.data());
  keep_least(least, "1 gram", begin);
  begin = cpu_ms();
  at::Tensor vectors = at::empty({r, r}, at::kDouble);
  const auto values = symmetric_eigen("", r, std::move(gram), vectors.data_ptr<double>());
  keep_least(least, "2 eigen", begin);
  begin = cpu_ms();
  check_basis("", a, vectors, at::tensor(values, at::kDouble));
  keep_least(least, "3 check", begin);
  const BasisErrors errors = basis_errors(a, vectors, at::tensor(values, at::kDouble));
  residual = std::max(residual, errors.residual);
  skew = std::max(skew, errors.orthogonality);
  const at::Tensor stored = vectors.to(at::kFloat);
  begin = cpu_ms();
  certify(vectors, stored, values);
  keep_least(least, "4 certify", begin);
}

int bench(int64_t m, int64_t n, int times, int svd_times) {
  at::set_num_threads(1);
  at::manual_seed(1);
  Target target{"bench", "up_proj", 0, m, n, m < n ? Form::kLeft : Form::kRight, 0};
  const at::Tensor w = at::randn({m, n}, at::kFloat), wide = w.to(at::kDouble);
  std::map<std::string, double> least;
  for (int i = 0; i < times; ++i) {
    if (target.form == Form::kRight) steps(wide, least);
    const double begin = cpu_ms();
    decompose(target, w.to(at::kDouble), at::kFloat);
    keep_least(least, "5 decompose, all of it", begin);
  }
  for (int i = 0; i < svd_times; ++i) {
    const double begin = cpu_ms();
    at::linalg_svd(w, /*full_matrices=*/false);
    keep_least(least, "6 torch.linalg.svd, float32", begin);
  }
  std::printf("%lld x %lld, %s\n", (long long)m, (long long)n, eigensolver_identity().c_str());
  for (const auto& [what, took] : least) std::printf("%-30s %9.1f ms\n", what.c_str() + 2, took);
  std::printf("%-30s %9.1e and %.1e\n", "residual and orthogonality", residual, skew);
  if (svd_times > 0)
    std::printf("%-30s %9.2f\n", "ratio",
                least["6 torch.linalg.svd, float32"] / least["5 decompose, all of it"]);
  return 0;
}

}  // namespace
}  // namespace svfleet

int main(int count, char** words) {
  if (count < 3) return std::fprintf(stderr, "usage: %s ROWS COLUMNS [TIMES [SVD]]\n", *words), 2;
  return svfleet::bench(std::atoll(words[1]), std::atoll(words[2]),
                        count > 3 ? std::atoi(words[3]) : 3, count > 4 ? std::atoi(words[4]) : 1);
}
