#include "worker/model/operations.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "comm/error.h"
#include "worker/kernels/elementwise.h"
#include "worker/model/gpu_operations.h"
#include "worker/model/typed.h"
#include "worker/threads.h"

namespace svfleet {
namespace {

int threads() {
  return compute_threads();
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon,
                    at::Tensor* inverse) {
  if (x.is_cuda()) return gpu::rms_norm(x, weight, epsilon, inverse);
  at::Tensor out = at::empty_like(x);
  if (inverse) *inverse = at::empty({x.size(0)}, x.options().dtype(wide_of(x)));
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    svfleet::rms_norm<T>(data_of<T>(x), data_of<T>(weight), x.size(0), x.size(1), epsilon,
                         data_of<T>(out), inverse ? data_of<Wide<T>>(*inverse) : nullptr,
                         threads());
  });
  return out;
}

void rms_norm_gradient(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverse,
                       const at::Tensor& d_out, const at::Tensor& d_x) {
  if (x.is_cuda()) return gpu::rms_norm_gradient(x, weight, inverse, d_out, d_x);
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    svfleet::rms_norm_gradient<T>(data_of<T>(x), data_of<T>(weight), data_of<Wide<T>>(inverse),
                                  data_of<Wide<T>>(d_out), x.size(0), x.size(1),
                                  data_of<Wide<T>>(d_x), threads());
  });
}

Angles angles(std::span<const int64_t> positions, const std::vector<double>& frequencies,
              at::ScalarType wide, at::Device device) {
  at::Tensor all = at::empty({int64_t(positions.size()), int64_t(frequencies.size())}, at::kDouble);
  double* a = all.data_ptr<double>();
  for (const int64_t position : positions)
    for (const double frequency : frequencies) *a++ = double(position) * frequency;
  return {all.cos().to(wide).to(device), all.sin().to(wide).to(device)};
}

void rotate(const at::Tensor& x, const Angles& by, int64_t head_dim) {
  if (x.is_cuda()) return gpu::rotate(x, by, head_dim);
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    svfleet::rotate<T>(data_of<T>(x), data_of<Wide<T>>(by.cos), data_of<Wide<T>>(by.sin), x.size(0),
                       int(x.size(1) / head_dim), int(head_dim), threads());
  });
}

void rotate_gradient(const at::Tensor& d, const Angles& by, int64_t head_dim) {
  if (d.is_cuda()) return gpu::rotate_gradient(d, by, head_dim);
  with_type(d.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) > 2)
      svfleet::rotate_gradient<T>(data_of<T>(d), data_of<T>(by.cos), data_of<T>(by.sin), d.size(0),
                                  int(d.size(1) / head_dim), int(head_dim), threads());
  });
}

at::Tensor gate_product(const at::Tensor& gate, const at::Tensor& up) {
  if (gate.is_cuda()) return gpu::gate_product(gate, up);
  at::Tensor out = at::empty_like(gate);
  with_type(gate.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    svfleet::gate_product<T>(data_of<T>(gate), data_of<T>(up), gate.numel(), data_of<T>(out),
                             threads());
  });
  return out;
}

void gate_product_gradient(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& d_out,
                           at::Tensor* d_gate, at::Tensor* d_up) {
  if (gate.is_cuda()) return gpu::gate_product_gradient(gate, up, d_out, d_gate, d_up);
  *d_gate = at::empty_like(d_out);
  *d_up = at::empty_like(d_out);
  with_type(gate.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    svfleet::gate_product_gradient<T>(data_of<T>(gate), data_of<T>(up), data_of<Wide<T>>(d_out),
                                      gate.numel(), data_of<Wide<T>>(*d_gate),
                                      data_of<Wide<T>>(*d_up), threads());
  });
}

void add_to(const at::Tensor& h, const at::Tensor& y) {
  if (h.is_cuda()) {
    h.add_(y);
    return;
  }
  with_type(h.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    svfleet::add_rows<T>(data_of<T>(h), data_of<T>(y), h.numel(), threads());
  });
}

at::Tensor rounded(const at::Tensor& wide, at::ScalarType type) {
  if (wide.is_cuda() || wide.scalar_type() == type) return wide.to(type);
  at::Tensor out = at::empty(wide.sizes(), wide.options().dtype(type));
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    svfleet::round_to<T>(data_of<Wide<T>>(wide), wide.numel(), data_of<T>(out), threads());
  });
  return out;
}

at::Tensor add_keyed(const at::Tensor& x, const at::Tensor& change, const at::Tensor& keys) {
  SVFLEET_CHECK(keys.numel() == x.size(0), keys.numel(), " keys for ", x.size(0), " rows");
  if (x.is_cuda()) return gpu::add_keyed(x, change, keys);
  at::Tensor out = at::empty_like(x);
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    svfleet::add_keyed<T>(data_of<T>(x), data_of<Wide<T>>(change), data_of<uint64_t>(keys),
                          x.size(0), x.size(1), data_of<T>(out), threads());
  });
  return out;
}

at::Tensor scale_rows(const at::Tensor& x, const at::Tensor& d, const at::Tensor& entry_of,
                      at::ScalarType type) {
  if (x.is_cuda()) return gpu::scale_rows(x, d, entry_of, type);
  SVFLEET_CHECK(d.is_contiguous() && (entry_of.defined() || d.numel() == x.size(1)), d.sizes());
  at::Tensor out = at::empty(x.sizes(), x.options().dtype(type));
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    svfleet::scale_rows<T>(data_of<Wide<T>>(x), data_of<Wide<T>>(d), data_of<int>(entry_of),
                           x.size(0), x.size(1), data_of<T>(out), threads());
  });
  return out;
}

void add_products(const at::Tensor& a, const at::Tensor& b, int64_t from, int64_t to,
                  double* sums) {
  if (a.is_cuda()) return gpu::add_products(a, b, from, to, sums);
  const int64_t r = a.size(1);
  with_type(a.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) > 2)
      svfleet::add_products<T>(data_of<T>(a) + from * r, data_of<T>(b) + from * r, to - from, r,
                               sums, threads());
  });
}

at::Tensor index_tensor(const std::vector<int64_t>& values, at::Device device) {
  at::Tensor t = at::empty({int64_t(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), t.data_ptr<int64_t>());
  return t.to(device);
}

}  // namespace svfleet
