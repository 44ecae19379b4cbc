#include "coordinator/sharing/rebase.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "comm/error.h"

namespace svfleet {

Factor other_side(Factor factor, const at::Tensor& weight) {
  c10::NoGradGuard no_grad;
  constexpr double kLeast = 1e-5;
  const bool right = factor.target.form == Form::kRight;
  const at::Tensor sigma = at::tensor(factor.sigma, at::kDouble),
                   kept = sigma >= kLeast * sigma.max(),
                   through = (right ? weight : weight.t()).mm(factor.q.cpu().to(at::kDouble));
  factor.q = at::where(kept, through / sigma, at::zeros_like(through));
  factor.target.form = right ? Form::kLeft : Form::kRight;
  return factor;
}

Rebased rebased(const Factor& from, const Factor& to, std::span<const float> z) {
  c10::NoGradGuard no_grad;
  const int64_t r = from.target.length();
  SVFLEET_CHECK(
      to.target.form == from.target.form && to.target.length() == r && int64_t(z.size()) == r,
      from.target.name);
  const auto exact = [](const Factor& factor) { return factor.q.cpu().to(at::kDouble); };
  const at::Tensor p = exact(to).t().mm(exact(from));
  at::Tensor d = at::empty({r}, at::kDouble);
  for (int64_t i = 0; i < r; ++i) d.data_ptr<double>()[i] = double(z[i]) - 1;
  const at::Tensor m = (p * d).mm(p.t()), diagonal = m.diagonal().clone();
  // Column by column: what sigma' weighs on the left are rows, and M is symmetric.
  const at::Tensor sigma2 = at::tensor(to.sigma, at::kDouble).square();
  const at::Tensor all = m.square().sum(0), off = (m - diagonal.diag()).square().sum(0);
  Rebased result;
  result.norm2 = (sigma2 * all).sum().item<double>();
  result.lost2 = (sigma2 * off).sum().item<double>();
  for (int64_t i = 0; i < r; ++i) result.z.push_back(float(1 + diagonal.data_ptr<double>()[i]));
  return result;
}

}  // namespace svfleet
