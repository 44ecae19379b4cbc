#include "svd/factor.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {
namespace {

// The side that Q lives on, as columns: rows of `a` are samples of what Q diagonalises.
at::Tensor facing(const Target& target, const at::Tensor& weight) {
  return target.form == Form::kRight ? weight : weight.t();
}

// Products are made of so many rows at a time, whatever memory there is: what is measured has the
// same bits everywhere.
constexpr int64_t kBlockRows = 2048;

// Of the mathematics libraries, for buffers of their own: MKL keeps up to about 65 MB, how much
// depends on which of its threads began when (measured on two busy cores).
constexpr int64_t kLibraries = 96 << 20;

// Calls `look(rows)` for all rows of `a`, a block at a time.
template <class Look>
void in_blocks(const at::Tensor& a, Look look) {
  for (int64_t at = 0; at < a.size(0); at += kBlockRows)
    look(a.narrow(0, at, std::min(kBlockRows, a.size(0) - at)));
}

// sum += aq^T aq; an undefined sum is zero.
void add_gram(at::Tensor& sum, const at::Tensor& aq) {
  if (sum.defined())
    sum.addmm_(aq.t(), aq);
  else
    sum = aq.t().mm(aq);
}

// How far a Gram matrix is from diagonal, relative to its norm; it is used up.
double off_diagonal(at::Tensor gram) {
  const double norm = gram.norm().item<double>();
  gram.diagonal().zero_();
  const double off = gram.norm().item<double>();
  return norm == 0 ? 0 : off / norm;  // NaN stays
}

// |Q^T Q - I|_F / sqrt(r)
double skew(const at::Tensor& q) {
  at::Tensor gram = q.t().mm(q);
  gram.diagonal().sub_(1);
  return gram.norm().item<double>() / std::sqrt(double(q.size(1)));
}

Certificate certify(const Target& target, const at::Tensor& a, const at::Tensor& exact,
                    const at::Tensor& stored) {
  const int64_t r = exact.size(0);
  at::Tensor q = stored.to(at::kDouble);

  // A fixed z, equidistributed in 1 +- 0.1 (golden-ratio sequence), so that the figure can be
  // compared over matrices and machines.
  at::Tensor d = at::empty({r}, at::kDouble);
  for (int64_t i = 0; i < r; ++i)
    d.data_ptr<double>()[i] = 0.2 * std::fmod(0.6180339887498949 * double(i + 1), 1.0) - 0.1;
  d = d.to(a.device());
  at::Tensor gram;
  double error = 0, scale = 0;
  in_blocks(a, [&](const at::Tensor& rows) {
    at::Tensor aq = rows.mm(q);
    add_gram(gram, aq);
    at::Tensor moved = aq.mul_(d).mm(q.t());
    at::Tensor moved_exactly = rows.mm(exact).mul_(d).mm(exact.t());
    error = std::hypot(error, moved.sub_(moved_exactly).norm().item<double>());
    scale = std::hypot(scale, moved_exactly.add_(rows).norm().item<double>());
  });

  Certificate certificate;
  certificate.off_diagonal = off_diagonal(std::move(gram));
  certificate.orthogonality = skew(q);
  certificate.predicted_error = scale > 0 ? error / scale : 0;
  SVFLEET_CHECK(std::isfinite(certificate.predicted_error), target.name);
  return certificate;
}

// The eigensolver's own answer, before rounding: an orthogonal but wrong basis would pass every
// later check. Measured errors are about 1e-13 (DESIGN section 2).
void check_basis(const Target& target, const at::Tensor& a, const at::Tensor& q) {
  at::Tensor gram;
  in_blocks(a, [&](const at::Tensor& rows) { add_gram(gram, rows.mm(q)); });
  const double off = off_diagonal(std::move(gram)), skewed = skew(q);
  if (off <= 1e-9 && skewed <= 1e-9) return;
  throw make_error(kExitInternal, "the decomposition of '", target.name,
                   "' failed its check: off-diagonal ", off, ", orthogonality ", skewed,
                   "; is another LAPACK in use?");
}

}  // namespace

int64_t decompose_bytes(const Target& target) {
  const int64_t r = target.length(), entries = target.rows * target.cols;
  // The weight, and beside it: a second one while it is read or turned; or the eigensolver's
  // matrices and workspace; or, while it is certified, five matrices and a few blocks of rows.
  return 8 * (entries + std::max(entries, 6 * r * r + 5 * kBlockRows * r)) + kLibraries;
}

Factor decompose(const Target& target, at::Tensor weight, at::ScalarType storage) {
  c10::NoGradGuard no_grad;
  const double r = double(target.length()), flops = double(target.rows * target.cols) * r;
  const InStage gram_matrix(Stage::kGram, flops);
  at::Tensor a = facing(target, weight.to(at::kDouble)).contiguous();
  weight.reset();
  at::Tensor gram = a.t().mm(a);
  if (!at::isfinite(gram.sum()).item<bool>())
    throw user_error("tensor '", target.name,
                     "' holds a NaN or infinity and cannot be decomposed; the model folder is "
                     "damaged or not trained in this type");
  enter(Stage::kEigen, r * r * r);
  auto [values, vectors] = at::linalg_eigh(gram, "L");
  gram.reset();
  values = values.flip(0);
  vectors = vectors.flip(1).contiguous();
  // An eigenvector's sign is free; fix it, or the same matrix gives another Q elsewhere.
  at::Tensor largest = vectors.abs().argmax(0, /*keepdim=*/true);
  at::Tensor sign = vectors.gather(0, largest).sign();
  vectors.mul_(sign);

  enter(Stage::kCheck, flops);
  check_basis(target, a, vectors);

  enter(Stage::kCertify, flops);
  Factor factor;
  factor.target = target;
  at::Tensor stored = vectors.to(storage).contiguous();
  factor.q = stored.cpu();
  at::Tensor sigma = values.clamp_min(0).sqrt().cpu().contiguous();
  factor.sigma.assign(sigma.data_ptr<double>(), sigma.data_ptr<double>() + sigma.numel());
  factor.certificate = certify(target, a, vectors, stored);
  return factor;
}

}  // namespace svfleet
