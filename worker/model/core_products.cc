#include "worker/model/core_products.h"

#include <ATen/ATen.h>

#include "comm/error.h"
#include "worker/model/entry_products.h"
#include "worker/model/operations.h"
#include "worker/model/typed.h"

namespace svfleet {
namespace {

bool is_block(const Basis& basis) {
  return basis.core().kind() == CoreKind::kBlock || basis.core().kind() == CoreKind::kTiny;
}

const Target& target_of(const Basis& basis, size_t t) {
  return basis.targets()[t];
}

// (IA)^3 scales what goes into down_proj, and what comes out of the others.
bool scales_input(const Basis& basis, size_t t) {
  return target_of(basis, t).kind == "down_proj";
}

EntryMatrix matrix(const RowCoefficients& c, int64_t offset, int64_t outputs, int64_t inputs) {
  return {c.d.contiguous(), c.entry_of, offset, outputs, inputs};
}
EntryMatrix block(const Basis& basis, size_t t, const RowCoefficients& c) {
  const int64_t k = basis.core().chosen(t).count;
  return matrix(c, 0, k, k);
}
EntryMatrix lora_a(const Basis& basis, size_t t, const RowCoefficients& c) {
  return matrix(c, 0, basis.core().options().rank, target_of(basis, t).cols);
}
EntryMatrix lora_b(const Basis& basis, size_t t, const RowCoefficients& c) {
  const int64_t r = basis.core().options().rank;
  return matrix(c, r * target_of(basis, t).cols, target_of(basis, t).rows, r);
}

// d of each row [rows, length].
at::Tensor by_row(const RowCoefficients& c, int64_t rows) {
  if (c.d.dim() == 1) return c.d.unsqueeze(0).expand({rows, c.d.size(0)});
  return c.d.index_select(0, c.entry_of);
}

at::Tensor wide(const at::Tensor& x) {
  return x.to(wide_of(x));
}

}  // namespace

bool reads_base_product(const Basis& basis, size_t t) {
  switch (basis.core().kind()) {
    case CoreKind::kBias:
      return true;
    case CoreKind::kIa3:
      return !scales_input(basis, t);
    case CoreKind::kLora:
      return false;
    default:
      return target_of(basis, t).form == Form::kLeft;
  }
}

at::Tensor core_input_change(const Basis& basis, size_t t, const at::Tensor& x,
                             const RowCoefficients& c) {
  if (basis.core().kind() == CoreKind::kIa3 && scales_input(basis, t))
    return wide(x) * by_row(c, x.size(0));
  if (!is_block(basis) || target_of(basis, t).form == Form::kLeft) return {};
  const Matrix& q = basis.q(t);
  const at::Tensor moved = entry_times(q.back_wide(x), block(basis, t, c));  // C Q^T x
  return q.times_wide(rounded(moved, x.scalar_type()));
}

at::Tensor core_output(const Basis& basis, size_t t, const Linear& linear, const at::Tensor& x,
                       const RowCoefficients& c) {
  const Matrix& weight = linear.weight;
  const at::ScalarType type = x.scalar_type();
  switch (basis.core().kind()) {
    case CoreKind::kBias:
      return weight.times(x, {by_row(c, x.size(0)), linear.bias});
    case CoreKind::kIa3: {
      const at::Tensor y = weight.times_wide(x, {.bias = linear.bias});
      return rounded(y + y * by_row(c, x.size(0)), type);
    }
    case CoreKind::kLora: {
      const at::Tensor u = entry_times(x, lora_a(basis, t, c));
      const at::Tensor change = entry_times(u, lora_b(basis, t, c)).mul_(basis.core().scale());
      return weight.times(x, {change, linear.bias});
    }
    default: {
      const Matrix& q = basis.q(t);
      const at::Tensor y = weight.times_wide(x);
      const at::Tensor in_basis = q.back_wide(rounded(y, type));
      const at::Tensor moved = entry_times(in_basis, block(basis, t, c));
      return q.times(rounded(moved, type), {y, linear.bias});
    }
  }
}

CoreBackward core_backward(const Basis& basis, size_t t, const Linear& linear, const at::Tensor& x,
                           const at::Tensor& g, const RowCoefficients& c, bool d_x_wanted) {
  CoreBackward out;
  const Matrix& weight = linear.weight;
  const at::ScalarType type = x.scalar_type();
  const int64_t rows = x.size(0);
  switch (basis.core().kind()) {
    case CoreKind::kBias: {
      const at::Tensor g_wide = wide(g);
      out.sums = {{g_wide, at::ones({rows, 1}, g_wide.options()), /*outer=*/true}};
      if (d_x_wanted) out.d_x = weight.back_wide(g);
      return out;
    }
    case CoreKind::kIa3: {
      if (scales_input(basis, t)) {
        const at::Tensor back = weight.back_wide(g);
        out.sums = {{wide(x), back}};
        if (d_x_wanted) out.d_x = back + back * by_row(c, rows);
        return out;
      }
      const at::Tensor g_wide = wide(g);
      out.sums = {{g_wide, weight.times_wide(x, {.bias = linear.bias})}};
      if (d_x_wanted) out.d_x = weight.back_wide(rounded(g_wide + g_wide * by_row(c, rows), type));
      return out;
    }
    case CoreKind::kLora: {
      const double scale = basis.core().scale();
      const EntryMatrix a = lora_a(basis, t, c), b = lora_b(basis, t, c);
      const at::Tensor u = entry_times(x, a).mul_(scale), v = entry_back(g, b).mul_(scale);
      out.sums = {{v, wide(x), /*outer=*/true, a.offset}, {wide(g), u, /*outer=*/true, b.offset}};
      if (d_x_wanted) out.d_x = weight.back_wide(g, {.rows = entry_back(v, a)});
      return out;
    }
    default: {
      const Matrix& q = basis.q(t);
      const EntryMatrix own = block(basis, t, c);
      if (target_of(basis, t).form == Form::kRight) {
        const at::Tensor back = weight.back_wide(g);
        const at::Tensor b = q.back_wide(rounded(back, type));
        out.sums = {{b, q.back_wide(x), /*outer=*/true}};
        if (d_x_wanted) out.d_x = q.times_wide(rounded(entry_back(b, own), type), {.rows = back});
        return out;
      }
      const at::Tensor a = q.back_wide(g);
      out.sums = {{a, q.back_wide(weight.times(x)), /*outer=*/true}};
      if (d_x_wanted)
        out.d_x = weight.back_wide(q.times(rounded(entry_back(a, own), type), {.rows = wide(g)}));
      return out;
    }
  }
}

at::Tensor core_weight_change(const Basis& basis, size_t t, const Matrix& weight,
                              const at::Tensor& plain, const at::Tensor& d) {
  const RowCoefficients c{d, {}};
  switch (basis.core().kind()) {
    case CoreKind::kBias:
      return {};
    case CoreKind::kIa3:
      return wide(plain) * (scales_input(basis, t) ? d : d.unsqueeze(1));
    case CoreKind::kLora: {
      const EntryMatrix a = lora_a(basis, t, c), b = lora_b(basis, t, c);
      const at::Tensor factor = d.narrow(0, b.offset, b.outputs * b.inputs);
      if (!factor.count_nonzero().item<int64_t>()) return {};
      return entry_back(factor.view({b.outputs, b.inputs}), a).mul_(basis.core().scale());
    }
    default: {
      const Matrix& q = basis.q(t);
      const at::Tensor left = entry_back(q.plain(), block(basis, t, c));  // Q C
      const at::Tensor change = q.times(rounded(left, q.type()));         // Q C Q^T
      if (target_of(basis, t).form == Form::kLeft) return weight.back_wide(change);
      return Matrix(change).back_wide(plain);
    }
  }
}

at::Tensor core_bias_change(const Basis& basis, size_t t, const Linear& linear,
                            const at::Tensor& d) {
  if (basis.core().kind() == CoreKind::kBias) return d;
  if (basis.core().kind() == CoreKind::kIa3 && !scales_input(basis, t) && linear.bias.defined())
    return wide(linear.bias) * d;
  return {};
}

}  // namespace svfleet
