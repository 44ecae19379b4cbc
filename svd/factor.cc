#include "svd/factor.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "comm/stage.h"
#include "svd/eigensolver.h"

namespace svfleet {
namespace {

// Of the mathematics libraries, for buffers of their own: MKL keeps up to about 65 MB, how much
// depends on which of its threads began when (measured on two busy cores).
constexpr int64_t kLibraries = 96 << 20;

// The side that Q lives on, as columns: rows are samples of what Q diagonalises.
at::Tensor facing(const Target& target, const at::Tensor& weight) {
  return target.form == Form::kRight ? weight : weight.t();
}

void check_finite(const Target& target, const at::Tensor& squares) {
  if (at::isfinite(squares.sum()).item<bool>()) return;
  throw user_error("tensor '", target.name,
                   "' holds a NaN or infinity and cannot be decomposed; the model folder is "
                   "damaged or not trained in this type");
}

struct Basis {
  at::Tensor vectors;  // [r, k], row i is q_i
  at::Tensor values;   // [r], descending
};

// Of all k eigenvectors of the Gram matrix the r that the weight has, the largest first; and an
// eigenvector's sign is free: fix it, or the same matrix gives another Q elsewhere.
Basis in_order(const Target& target, const at::Tensor& vectors, const at::Tensor& values) {
  const int64_t r = target.length(), zeros = target.basis_rows() - r;
  Basis basis{vectors.narrow(0, zeros, r).flip(0), values.narrow(0, zeros, r).flip(0)};
  const auto [least, most] = at::aminmax(basis.vectors, 1, /*keepdim=*/true);
  basis.vectors.mul_(at::where(most >= least.neg(), at::ones_like(most), least.sign()));
  return basis;
}

Basis solve_on_cpu(const Target& target, const at::Tensor& weight) {
  const int64_t r = target.basis_rows();
  std::vector<double> gram(r * r);
  gram_matrix(weight.data_ptr<double>(), target.rows, target.cols, target.form == Form::kRight,
              gram.data());
  const at::Tensor matrix = at::from_blob(gram.data(), {r, r}, at::kDouble);
  check_finite(target, matrix.diagonal());
  enter(Stage::kEigen, double(r) * r * r);
  at::Tensor vectors = at::empty({r, r}, at::kDouble);
  const std::vector<double> values =
      symmetric_eigen(target.name, r, std::move(gram), vectors.data_ptr<double>());
  return in_order(target, vectors, at::tensor(values, at::kDouble));
}

Basis solve_on_gpu(const Target& target, const at::Tensor& weight) {
  const double r = double(target.basis_rows());
  const at::Tensor a = facing(target, weight);
  at::Tensor gram = a.t().mm(a);
  check_finite(target, gram.diagonal());
  enter(Stage::kEigen, r * r * r);
  auto [values, vectors] = at::linalg_eigh(gram, "L");
  return in_order(target, vectors.t().contiguous(), values);
}

}  // namespace

int64_t decompose_bytes(const Target& target) {
  const int64_t r = target.basis_rows(), entries = target.rows * target.cols;
  // The weight, and beside it: a second one while it is read; or the eigensolver's three matrices;
  // or, while it is certified, four.
  return 8 * (entries + std::max(entries, 4 * r * r + 256 * r)) + kLibraries;
}

Factor decompose(const Target& target, at::Tensor weight, at::ScalarType storage) {
  c10::NoGradGuard no_grad;
  const double r = double(target.length()), entries = double(target.rows * target.cols);
  const InStage gram_stage(Stage::kGram, entries * double(target.basis_rows()));
  weight = weight.to(at::kDouble).contiguous();
  const Basis basis = weight.is_cpu() ? solve_on_cpu(target, weight) : solve_on_gpu(target, weight);

  enter(Stage::kCheck, entries);
  check_basis(target.name, facing(target, weight), basis.vectors, basis.values);
  weight.reset();

  enter(Stage::kCertify, r * r * double(target.basis_rows()));
  Factor factor;
  factor.target = target;
  const at::Tensor stored = basis.vectors.to(storage), values = basis.values.clamp_min(0).cpu();
  factor.q = stored.t().contiguous().cpu();
  const double* const lambda = values.data_ptr<double>();
  for (int64_t i = 0; i < target.length(); ++i) factor.sigma.push_back(std::sqrt(lambda[i]));
  factor.certificate = certify(basis.vectors, stored, {lambda, lambda + target.length()});
  SVFLEET_CHECK(std::isfinite(factor.certificate.predicted_error), target.name);
  return factor;
}

}  // namespace svfleet
