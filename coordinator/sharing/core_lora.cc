#include "coordinator/sharing/core_lora.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "comm/error.h"

namespace svfleet {
namespace {

// Numbers of z from `offset` on, as a matrix in float64.
at::Tensor matrix(const OpenedExpert& opened, int64_t offset, int64_t rows, int64_t cols) {
  at::Tensor m = at::empty({rows, cols}, at::kDouble);
  for (int64_t i = 0; i < rows * cols; ++i)
    m.data_ptr<double>()[i] = double(opened.z[size_t(offset + i)]);
  return m;
}

}  // namespace

LoraFactors core_lora(const OpenedExpert& opened, size_t t, int64_t most) {
  c10::NoGradGuard no_grad;
  const Core& core = opened.base.basis->core();
  const Target& target = core.targets()[t];
  const int64_t offset = core.part(t).offset;
  at::Tensor a, b;
  if (core.kind() == CoreKind::kLora) {
    const int64_t r = core.options().rank;
    a = matrix(opened, offset, r, target.cols);
    b = matrix(opened, offset + r * target.cols, target.rows, r) * core.scale();
  } else if (core.kind() == CoreKind::kBlock) {
    const Core::Range chosen = core.chosen(t);
    const at::Tensor q = stored_factor(opened, target)
                             .q.cpu()
                             .to(at::kDouble)
                             .narrow(1, chosen.first, chosen.count),
                     c = matrix(opened, offset, chosen.count, chosen.count),
                     weight = exact_weight(opened, target);
    const bool right = target.form == Form::kRight;
    b = right ? weight.mm(q).mm(c) : q.mm(c);
    a = right ? q.t() : q.t().mm(weight);
  } else {
    throw user_error("the expert '", opened.path, "' is of core ", core_name(core.kind()),
                     ", which is no LoRA; export it as native");
  }
  LoraFactors lora;
  if (b.count_nonzero().item<int64_t>() == 0) {
    b = b.narrow(1, 0, 0);
    a = a.narrow(0, 0, 0);
  }
  lora.moved = a.size(0);
  if (lora.moved > most)
    throw user_error("the expert '", opened.path, "' has rank ", lora.moved, " at '", target.name,
                     "', above --max-rank ", most, ", and is not cut; raise --max-rank");
  lora.norm2 = (b.t().mm(b) * a.mm(a.t())).sum().item<double>();  // |B A|_F^2
  lora.b = b.to(at::kFloat).contiguous();
  lora.a = a.to(at::kFloat).contiguous();
  return lora;
}

}  // namespace svfleet
