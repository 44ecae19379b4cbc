#include "svd/factor.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "comm/error.h"
#include "comm/stage.h"

namespace svfleet {
namespace {

// The side that Q lives on, as columns: rows of `a` are samples of what Q diagonalises.
at::Tensor facing(const Target& target, const at::Tensor& weight) {
  return target.form == Form::kRight ? weight : weight.t();
}

Certificate certify(const Target& target, const at::Tensor& a, const at::Tensor& exact,
                    const at::Tensor& stored) {
  const int64_t r = exact.size(0);
  at::Tensor q = stored.to(at::kDouble);
  at::Tensor aq = a.mm(q);
  at::Tensor gram = aq.t().mm(aq);
  double gram_norm = gram.norm().item<double>();
  at::Tensor off = gram - at::diag(at::diag(gram));

  // A fixed z, equidistributed in 1 +- 0.1 (golden-ratio sequence), so that the figure can be
  // compared over matrices and machines.
  at::Tensor d = at::empty({r}, at::kDouble);
  for (int64_t i = 0; i < r; ++i)
    d.data_ptr<double>()[i] = 0.2 * std::fmod(0.6180339887498949 * double(i + 1), 1.0) - 0.1;
  d = d.to(a.device());
  at::Tensor moved = (aq * d).mm(q.t());
  at::Tensor moved_exactly = (a.mm(exact) * d).mm(exact.t());
  double scale = (a + moved_exactly).norm().item<double>();

  Certificate certificate;
  certificate.orthogonality =
      (q.t().mm(q) - at::eye(r, a.options())).norm().item<double>() / std::sqrt(double(r));
  certificate.off_diagonal = gram_norm > 0 ? off.norm().item<double>() / gram_norm : 0;
  certificate.predicted_error =
      scale > 0 ? (moved - moved_exactly).norm().item<double>() / scale : 0;
  SVFLEET_CHECK(std::isfinite(certificate.predicted_error), target.name);
  return certificate;
}

// The eigensolver's own answer, before rounding: an orthogonal but wrong basis would pass every
// later check. Measured errors are about 1e-13 (DESIGN section 2).
void check_basis(const Target& target, const at::Tensor& a, const at::Tensor& q) {
  at::Tensor aq = a.mm(q);
  at::Tensor gram = aq.t().mm(aq);
  const double scale = gram.norm().item<double>();
  const double off = (gram - at::diag(at::diag(gram))).norm().item<double>();
  const double skew = (q.t().mm(q) - at::eye(q.size(1), q.options())).norm().item<double>() /
                      std::sqrt(double(q.size(1)));
  if (off <= 1e-9 * scale && skew <= 1e-9) return;
  throw make_error(kExitInternal, "the decomposition of '", target.name,
                   "' failed its check: off-diagonal ", scale > 0 ? off / scale : off,
                   ", orthogonality ", skew, "; is another LAPACK in use?");
}

}  // namespace

Factor decompose(const Target& target, const at::Tensor& weight, at::ScalarType storage) {
  c10::NoGradGuard no_grad;
  const double r = double(target.length()), flops = double(target.rows * target.cols) * r;
  const InStage gram_matrix(Stage::kGram, flops);
  at::Tensor a = facing(target, weight.to(at::kDouble)).contiguous();
  at::Tensor gram = a.t().mm(a);
  if (!at::isfinite(gram.sum()).item<bool>())
    throw user_error("tensor '", target.name,
                     "' holds a NaN or infinity and cannot be decomposed; the model folder is "
                     "damaged or not trained in this type");
  enter(Stage::kEigen, r * r * r);
  auto [values, vectors] = at::linalg_eigh(gram, "L");
  values = values.flip(0);
  vectors = vectors.flip(1).contiguous();
  // An eigenvector's sign is free; fix it, or the same matrix gives another Q elsewhere.
  at::Tensor largest = vectors.abs().argmax(0, /*keepdim=*/true);
  at::Tensor sign = vectors.gather(0, largest).sign();
  vectors = vectors * sign;

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
