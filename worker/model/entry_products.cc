#include "worker/model/entry_products.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "comm/error.h"
#include "worker/model/typed.h"

namespace svfleet {
namespace {

// Partial sums that the compiler keeps in registers; the order of adding is fixed by it.
constexpr int64_t kLanes = 16;

template <class A>
A dot(const A* a, const A* b, int64_t n) {
  A lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += a[i + l] * b[i + l];
  A sum = 0;
  for (int64_t l = 0; l < kLanes; ++l) sum += lanes[l];
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

template <class A>
void add_scaled(A by, const A* x, int64_t n, A* out) {
  for (int64_t i = 0; i < n; ++i) out[i] += by * x[i];
}

// Calls work(row, its M).
template <class A, class Work>
void each_row(const EntryMatrix& m, int64_t rows, Work work) {
  const A* d = data_of<A>(m.d) + m.offset;
  const int* entry_of = data_of<int>(m.entry_of);
  const int64_t length = m.d.size(-1);
  for (int64_t row = 0; row < rows; ++row) work(row, d + (entry_of ? entry_of[row] * length : 0));
}

// On a GPU by libtorch, an entry at a time.
at::Tensor on_gpu(const at::Tensor& x, const EntryMatrix& m, bool back) {
  const auto of = [&](const at::Tensor& d) {
    const at::Tensor own = d.narrow(0, m.offset, m.outputs * m.inputs).view({m.outputs, m.inputs});
    return x.mm(back ? own : own.t());
  };
  if (!m.entry_of.defined()) return of(m.d);
  at::Tensor out = at::zeros({x.size(0), back ? m.inputs : m.outputs}, x.options());
  for (int64_t entry = 1; entry < m.d.size(0); ++entry)  // that of the base stays zero
    out = at::where((m.entry_of == entry).unsqueeze(1), of(m.d[entry]), out);
  return out;
}

at::Tensor product(const at::Tensor& x, const EntryMatrix& m, bool back) {
  const int64_t in = back ? m.outputs : m.inputs, out = back ? m.inputs : m.outputs;
  SVFLEET_CHECK(x.dim() == 2 && x.size(1) == in && m.d.is_contiguous() &&
                    m.d.scalar_type() == wide_of(x) && (m.d.dim() == 1 || m.entry_of.defined()),
                "rows of ", x.size(-1), " for ", in, " inputs");
  const at::Tensor from = x.to(wide_of(x)).contiguous();
  if (x.is_cuda()) return on_gpu(from, m, back);
  at::Tensor y = at::zeros({x.size(0), out}, from.options());
  with_type(from.scalar_type(), [&](auto zero) {
    using A = decltype(zero);
    if constexpr (sizeof(A) > 2)
      each_row<A>(m, x.size(0), [&](int64_t row, const A* own) {
        const A* own_x = data_of<A>(from) + row * in;
        A* own_y = data_of<A>(y) + row * out;
        for (int64_t i = 0; i < m.outputs; ++i, own += m.inputs)
          if (back)
            add_scaled(own_x[i], own, m.inputs, own_y);
          else
            own_y[i] = dot(own, own_x, m.inputs);
      });
  });
  return y;
}

template <class A>
void add_outer(const A* a, const A* b, int64_t rows, int64_t p, int64_t q, double* sums) {
  constexpr int64_t kBlock = 32;
  for (int64_t j = 0; j < q; j += kBlock) {
    const int64_t width = std::min(kBlock, q - j);
    for (int64_t i = 0; i < p; ++i) {
      double own[kBlock] = {};
      std::copy_n(sums + i * q + j, width, own);
      for (int64_t row = 0; row < rows; ++row) {
        const double by = double(a[row * p + i]);
        const A* of = b + row * q + j;
        if (width == kBlock)
          for (int64_t l = 0; l < kBlock; ++l) own[l] += by * double(of[l]);
        else
          for (int64_t l = 0; l < width; ++l) own[l] += by * double(of[l]);
      }
      std::copy_n(own, width, sums + i * q + j);
    }
  }
}

}  // namespace

at::Tensor entry_times(const at::Tensor& x, const EntryMatrix& m) {
  return product(x, m, false);
}

at::Tensor entry_back(const at::Tensor& x, const EntryMatrix& m) {
  return product(x, m, true);
}

void add_outer_products(const at::Tensor& a, const at::Tensor& b, int64_t from, int64_t to,
                        double* sums) {
  const int64_t p = a.size(1), q = b.size(1);
  SVFLEET_CHECK(a.size(0) == b.size(0) && a.scalar_type() == b.scalar_type(), a.sizes(), " and ",
                b.sizes());
  if (a.is_cuda()) {
    const auto rows = [&](const at::Tensor& x) {
      return x.narrow(0, from, to - from).to(at::kDouble);
    };
    const at::Tensor sum = rows(a).t().mm(rows(b)).cpu().contiguous();
    for (int64_t i = 0; i < p * q; ++i) sums[i] += sum.data_ptr<double>()[i];
    return;
  }
  const at::Tensor wide_a = a.contiguous(), wide_b = b.contiguous();
  with_type(a.scalar_type(), [&](auto zero) {
    using A = decltype(zero);
    if constexpr (sizeof(A) > 2)
      add_outer<A>(data_of<A>(wide_a) + from * p, data_of<A>(wide_b) + from * q, to - from, p, q,
                   sums);
  });
}

}  // namespace svfleet
