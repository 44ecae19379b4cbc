#include "worker/model/operations.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <numeric>
#include <tuple>

#include "comm/error.h"
#include "worker/kernels/elementwise.h"
#ifdef SVFLEET_HAVE_CUDA
#include "worker/model/gpu_kernels.h"
#endif
#include "worker/model/gpu_operations.h"
#include "worker/model/gpu_pass.h"
#include "worker/model/typed.h"
#include "worker/threads.h"

namespace svfleet {
namespace {

int threads() {
  return compute_threads();
}

// Returns what the call of that name for a GPU gives where `x` lies on one.
#ifdef SVFLEET_HAVE_CUDA
#define SVFLEET_ON_GPU(x, call)                       \
  if (gpu::has_kernels(x)) return gpu::kernels::call; \
  if ((x).is_cuda()) return gpu::call;
#else
#define SVFLEET_ON_GPU(x, call)
#endif

// Calls with_it with the weight's numbers, of T or wide.
template <class T, class F>
void with_weight(const at::Tensor& weight, F&& with_it) {
  if (weight.scalar_type() == at::kBFloat16)
    with_it(data_of<T>(weight));
  else
    with_it(data_of<Wide<T>>(weight));
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon,
                    at::Tensor* inverse) {
  SVFLEET_ON_GPU(x, rms_norm(x, weight, epsilon, inverse))
  at::Tensor out = at::empty_like(x);
  if (inverse) *inverse = at::empty({x.size(0)}, x.options().dtype(wide_of(x)));
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    with_weight<T>(weight, [&](const auto* w) {
      svfleet::rms_norm<T>(data_of<T>(x), w, x.size(0), x.size(1), epsilon, data_of<T>(out),
                           inverse ? data_of<Wide<T>>(*inverse) : nullptr, threads());
    });
  });
  return out;
}

void rms_norm_gradient(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverse,
                       const at::Tensor& d_out, const at::Tensor& d_x) {
  SVFLEET_ON_GPU(x, rms_norm_gradient(x, weight, inverse, d_out, d_x))
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    with_weight<T>(weight, [&](const auto* w) {
      svfleet::rms_norm_gradient<T>(data_of<T>(x), w, data_of<Wide<T>>(inverse),
                                    data_of<Wide<T>>(d_out), x.size(0), x.size(1),
                                    data_of<Wide<T>>(d_x), threads());
    });
  });
}

namespace {

Angles angles_on_host(std::span<const int64_t> positions, const std::vector<double>& frequencies,
                      double magnitude, at::ScalarType wide) {
  at::Tensor all = at::empty({int64_t(positions.size()), int64_t(frequencies.size())}, at::kDouble);
  double* a = all.data_ptr<double>();
  for (const int64_t position : positions)
    for (const double frequency : frequencies) *a++ = double(position) * frequency;
  at::Tensor cos = all.cos(), sin = all.sin();
  if (magnitude != 1) cos.mul_(magnitude), sin.mul_(magnitude);
  return {cos.to(wide), sin.to(wide)};
}

// Those of every position up to the longest sequence so far, made once for each model.
Angles angles_on_device(std::span<const int64_t> positions, const std::vector<double>& frequencies,
                        double magnitude, at::ScalarType wide, at::Device device) {
  static std::mutex mutex;
  static std::map<std::tuple<std::vector<double>, double, at::ScalarType, int>, Angles> known;
  std::lock_guard lock(mutex);
  Angles& all = known[{frequencies, magnitude, wide, int(device.index())}];
  const int64_t most = *std::max_element(positions.begin(), positions.end()) + 1;
  if (!all.cos.defined() || all.cos.size(0) < most) {
    std::vector<int64_t> every(size_t(std::max<int64_t>(1024, 2 * most)));
    std::iota(every.begin(), every.end(), 0);
    const Angles made = angles_on_host(every, frequencies, magnitude, wide);
    all = {made.cos.to(device), made.sin.to(device)};
  }
  const at::Tensor index = index_tensor({positions.begin(), positions.end()}, device);
  return {all.cos.index_select(0, index), all.sin.index_select(0, index)};
}

}  // namespace

Angles angles(std::span<const int64_t> positions, const std::vector<double>& frequencies,
              double magnitude, at::ScalarType wide, at::Device device) {
  return device.is_cuda() ? angles_on_device(positions, frequencies, magnitude, wide, device)
                          : angles_on_host(positions, frequencies, magnitude, wide);
}

namespace {

RotaryShape shape_of(const at::Tensor& x, const Angles& by, int64_t head_dim) {
  return {int(x.size(1) / head_dim), int(head_dim), int(2 * by.cos.size(1))};
}

}  // namespace

void rotate(const at::Tensor& x, const Angles& by, int64_t head_dim) {
  SVFLEET_ON_GPU(x, rotate(x, by, head_dim))
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    svfleet::rotate<T>(data_of<T>(x), data_of<Wide<T>>(by.cos), data_of<Wide<T>>(by.sin), x.size(0),
                       shape_of(x, by, head_dim), threads());
  });
}

void rotate_gradient(const at::Tensor& d, const Angles& by, int64_t head_dim) {
  SVFLEET_ON_GPU(d, rotate_gradient(d, by, head_dim))
  with_type(d.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) > 2)
      svfleet::rotate_gradient<T>(data_of<T>(d), data_of<T>(by.cos), data_of<T>(by.sin), d.size(0),
                                  shape_of(d, by, head_dim), threads());
  });
}

at::Tensor gate_product(const at::Tensor& gate, const at::Tensor& up, Activation act) {
  SVFLEET_ON_GPU(gate, gate_product(gate, up))
  at::Tensor out = at::empty_like(gate);
  with_type(gate.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    svfleet::gate_product<T>(act, data_of<T>(gate), data_of<T>(up), gate.numel(), data_of<T>(out),
                             threads());
  });
  return out;
}

void gate_product_gradient(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& d_out,
                           at::Tensor* d_gate, at::Tensor* d_up, Activation act) {
  SVFLEET_ON_GPU(gate, gate_product_gradient(gate, up, d_out, d_gate, d_up))
  *d_gate = at::empty_like(d_out);
  *d_up = at::empty_like(d_out);
  with_type(gate.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    svfleet::gate_product_gradient<T>(
        act, data_of<T>(gate), data_of<T>(up), data_of<Wide<T>>(d_out), gate.numel(),
        data_of<Wide<T>>(*d_gate), data_of<Wide<T>>(*d_up), threads());
  });
}

void soft_cap(const at::Tensor& x, double cap, at::Tensor* slope) {
  SVFLEET_CHECK(!x.is_cuda(), "soft caps on a GPU");
  if (slope) *slope = at::empty_like(x);
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) > 2)
      svfleet::soft_cap<T>(data_of<T>(x), cap, x.numel(), slope ? data_of<T>(*slope) : nullptr,
                           threads());
  });
}

void add_to(const at::Tensor& h, const at::Tensor& y, double scale) {
  SVFLEET_CHECK(scale == 1 || !h.is_cuda(), "residual scale ", scale, " on a GPU");
  if (h.is_cuda()) {
    h.add_(y);
    return;
  }
  with_type(h.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    if (scale == 1)
      svfleet::add_rows<T>(data_of<T>(h), data_of<T>(y), h.numel(), threads());
    else
      svfleet::add_scaled<T>(data_of<T>(h), data_of<T>(y), scale, h.numel(), threads());
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
  SVFLEET_ON_GPU(x, add_keyed(x, change, keys))
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
  SVFLEET_ON_GPU(x, scale_rows(x, d, entry_of, type))
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
  if (device.is_cuda()) {  // a copy that nobody waits for
    Upload upload;
    upload.add(values);
    return upload.to(device).view(at::kLong).narrow(0, 0, int64_t(values.size()));
  }
  at::Tensor t = at::empty({int64_t(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), t.data_ptr<int64_t>());
  return t;
}

}  // namespace svfleet
