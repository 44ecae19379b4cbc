#include "svd/apply.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "comm/error.h"

namespace svfleet {

void merge(Form form, const at::Tensor& weight, const at::Tensor& q, const at::Tensor& d,
           at::Tensor& merged) {
  c10::NoGradGuard no_grad;
  if (!d.count_nonzero().item<int64_t>()) {  // W + 0 would turn -0 into +0
    merged.copy_(weight);
    return;
  }
  at::ScalarType wide = weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor basis = q.to(wide);
  at::Tensor change = (basis * d.to(wide)).mm(basis.t()).to(weight.scalar_type());
  if (form == Form::kRight)
    at::addmm_out(merged, weight, weight, change);
  else
    at::addmm_out(merged, weight, change, weight);
}

at::Tensor scaled_in_basis(const at::Tensor& x, const at::Tensor& q, const at::Tensor& d) {
  // d is float32: so are the product and, in the backward pass, the sum over t that is dz.
  return (x.mm(q) * d).to(x.scalar_type()).mm(q.t());
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The bias goes in by pointer: it takes no gradient, and may be undefined.
struct ClosedForm : torch::autograd::Function<ClosedForm> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& merged, const at::Tensor* bias, const at::Tensor& q,
                            const at::Tensor& d, bool right) {
    ctx->save_for_backward({x, weight, q, d});
    ctx->saved_data["right"] = right;
    return at::linear(x, merged, *bias);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &q = saved[2], &d = saved[3];
    const at::Tensor& g = grads[0];
    const at::ScalarType type = x.scalar_type();
    at::Tensor dx, dd;
    auto along = [&](const at::Tensor& a, const at::Tensor& b) {  // sum_t a_t o b_t in d's type
      return (a.to(d.scalar_type()) * b.to(d.scalar_type())).sum(0);
    };
    if (ctx->saved_data["right"].toBool()) {
      at::Tensor back = g.mm(weight);    // W^T G
      at::Tensor in_basis = back.mm(q);  // Q^T W^T G
      dd = along(x.mm(q), in_basis);
      dx = back + (in_basis * d).to(type).mm(q.t());
    } else {
      at::Tensor in_basis = g.mm(q);  // Q^T G
      dd = along(in_basis, at::linear(x, weight).mm(q));
      dx = (g + (in_basis * d).to(type).mm(q.t())).mm(weight);
    }
    return {dx, {}, {}, {}, {}, dd, {}};
  }
};

}  // namespace

at::Tensor merged_linear_closed_form(Form form, const at::Tensor& x, const at::Tensor& weight,
                                     const at::Tensor& merged, const at::Tensor& bias,
                                     const at::Tensor& q, const at::Tensor& d) {
  return ClosedForm::apply(x, weight, merged, &bias, q, d, form == Form::kRight);
}

}  // namespace svfleet
