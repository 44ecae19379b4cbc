#include "worker/kernels/elementwise.h"

#include <type_traits>

#include "worker/kernels/elementwise_kernels.h"
#include "worker/kernels/instruction_set.h"
#include "worker/kernels/keyed_hash.h"
#include "worker/kernels/share.h"

namespace svfleet {
namespace {

template <class T>
ElementwiseKernels<T> chosen() {
  if constexpr (sizeof(T) < 8) {
    if (kernels() == Kernels::kAvx512) return elementwise_avx512<T>();
    if (kernels() == Kernels::kAvx2) return elementwise_avx2<T>();
  }
  return elementwise_plain<T>();
}

template <class T, class V>
typename ElementwiseKernels<T>::template Norm<V> norm_of() {
  if constexpr (std::is_same_v<T, V>)
    return chosen<T>().norm;
  else
    return chosen<T>().wide_norm;
}

template <class T>
typename ElementwiseKernels<T>::Gate gate_of(Activation act) {
  return act == Activation::kSilu ? chosen<T>().silu : chosen<T>().gelu_tanh;
}

constexpr int64_t kStep = 64;  // of elements: a line of the smallest type, twice

}  // namespace

template <class T, class V>
void rms_norm(const T* x, const V* weight, int64_t rows, int64_t width, double epsilon, T* out,
              Wide<T>* inverse_rms, int threads) {
  const auto run = norm_of<T, V>().forward;
  share(rows, 1, rows * width, threads, [=](int64_t first, int64_t count) {
    const int64_t at = first * width;
    run(x + at, weight, count, width, epsilon, out + at,
        inverse_rms ? inverse_rms + first : nullptr);
  });
}

template <class T, class V>
void rms_norm_gradient(const T* x, const V* weight, const Wide<T>* inverse_rms,
                       const Wide<T>* d_out, int64_t rows, int64_t width, Wide<T>* d_x,
                       int threads) {
  const auto run = norm_of<T, V>().gradient;
  share(rows, 1, rows * width, threads, [=](int64_t first, int64_t count) {
    const int64_t at = first * width;
    run(x + at, weight, inverse_rms + first, d_out + at, count, width, d_x + at);
  });
}

template <class T>
void rotate(T* x, const Wide<T>* cos, const Wide<T>* sin, int64_t rows, const RotaryShape& shape,
            int threads) {
  const auto run = chosen<T>().rotate;
  const int64_t width = int64_t{shape.heads} * shape.head_dim, half = shape.rotary_dim / 2;
  share(rows, 1, rows * width, threads, [=](int64_t first, int64_t count) {
    run(x + first * width, cos + first * half, sin + first * half, count, shape);
  });
}

template <class T>
void rotate_gradient(Wide<T>* d, const Wide<T>* cos, const Wide<T>* sin, int64_t rows,
                     const RotaryShape& shape, int threads) {
  const auto run = chosen<T>().rotate_gradient;
  const int64_t width = int64_t{shape.heads} * shape.head_dim, half = shape.rotary_dim / 2;
  share(rows, 1, rows * width, threads, [=](int64_t first, int64_t count) {
    run(d + first * width, cos + first * half, sin + first * half, count, shape);
  });
}

template <class T>
void gate_product(Activation act, const T* gate, const T* up, int64_t count, T* out, int threads) {
  const auto run = gate_of<T>(act).product;
  share(count, kStep, count, threads,
        [=](int64_t at, int64_t n) { run(gate + at, up + at, n, out + at); });
}

template <class T>
void gate_product_gradient(Activation act, const T* gate, const T* up, const Wide<T>* d_out,
                           int64_t count, Wide<T>* d_gate, Wide<T>* d_up, int threads) {
  const auto run = gate_of<T>(act).gradient;
  share(count, kStep, count, threads, [=](int64_t at, int64_t n) {
    run(gate + at, up + at, d_out + at, n, d_gate + at, d_up + at);
  });
}

template <class T>
void add_rows(T* h, const T* y, int64_t count, int threads) {
  const auto run = chosen<T>().add_rows;
  share(count, kStep, count, threads, [=](int64_t at, int64_t n) { run(h + at, y + at, n); });
}

template <class T>
void add_scaled(T* h, const T* y, double scale, int64_t count, int threads) {
  const auto run = chosen<T>().add_scaled;
  share(count, kStep, count, threads,
        [=](int64_t at, int64_t n) { run(h + at, y + at, Wide<T>(scale), n); });
}

template <class A>
void soft_cap(A* x, double cap, int64_t count, A* slope, int threads) {
  const auto run = chosen<A>().soft_cap;
  share(count, kStep, count, threads,
        [=](int64_t at, int64_t n) { run(x + at, A(cap), n, slope ? slope + at : nullptr); });
}

template <class T>
void round_to(const Wide<T>* x, int64_t count, T* out, int threads) {
  const auto run = chosen<T>().round_to;
  share(count, kStep, count, threads, [=](int64_t at, int64_t n) { run(x + at, n, out + at); });
}

template <class T>
void add_keyed(const T* x, const Wide<T>* change, const uint64_t* keys, int64_t rows, int64_t width,
               T* out, int threads) {
  const auto run = chosen<T>().add_keyed;
  share(rows, 1, rows * width, threads, [=](int64_t first, int64_t count) {
    const int64_t at = first * width;
    run(x + at, change + at, keys + first, count, width, out + at);
  });
}

uint64_t mix(uint64_t key, uint64_t value) {
  return mix_scrambled(scrambled_key(key), value);
}

template <class T>
void scale_rows(const Wide<T>* x, const Wide<T>* d, const int* scale_of, int64_t rows, int64_t r,
                T* out, int threads) {
  const auto run = chosen<T>().scale_rows;
  share(rows, 1, rows * r, threads, [=](int64_t first, int64_t count) {
    run(x + first * r, d, scale_of ? scale_of + first : nullptr, count, r, out + first * r);
  });
}

template <class A>
void add_products(const A* a, const A* b, int64_t rows, int64_t r, double* sums, int threads) {
  const auto run = chosen<A>().add_products;
  share(r, 16, rows * r, threads, [=](int64_t first, int64_t count) {
    run(a + first, b + first, rows, r, count, sums + first);
  });
}

#define SVFLEET_NORM(T, V)                                                                       \
  template void rms_norm<T, V>(const T*, const V*, int64_t, int64_t, double, T*, Wide<T>*, int); \
  template void rms_norm_gradient<T, V>(const T*, const V*, const Wide<T>*, const Wide<T>*,      \
                                        int64_t, int64_t, Wide<T>*, int);
SVFLEET_NORM(bf16, bf16)
SVFLEET_NORM(bf16, float)
SVFLEET_NORM(float, float)
SVFLEET_NORM(double, double)
#undef SVFLEET_NORM

#define SVFLEET_FOR(T)                                                                            \
  template void rotate<T>(T*, const Wide<T>*, const Wide<T>*, int64_t, const RotaryShape&, int);  \
  template void rotate_gradient<T>(Wide<T>*, const Wide<T>*, const Wide<T>*, int64_t,             \
                                   const RotaryShape&, int);                                      \
  template void gate_product<T>(Activation, const T*, const T*, int64_t, T*, int);                \
  template void gate_product_gradient<T>(Activation, const T*, const T*, const Wide<T>*, int64_t, \
                                         Wide<T>*, Wide<T>*, int);                                \
  template void add_rows<T>(T*, const T*, int64_t, int);                                          \
  template void add_scaled<T>(T*, const T*, double, int64_t, int);                                \
  template void round_to<T>(const Wide<T>*, int64_t, T*, int);                                    \
  template void add_keyed<T>(const T*, const Wide<T>*, const uint64_t*, int64_t, int64_t, T*,     \
                             int);                                                                \
  template void scale_rows<T>(const Wide<T>*, const Wide<T>*, const int*, int64_t, int64_t, T*,   \
                              int);
SVFLEET_FOR(bf16)
SVFLEET_FOR(float)
SVFLEET_FOR(double)
#undef SVFLEET_FOR

template void soft_cap<float>(float*, double, int64_t, float*, int);
template void soft_cap<double>(double*, double, int64_t, double*, int);
template void add_products<float>(const float*, const float*, int64_t, int64_t, double*, int);
template void add_products<double>(const double*, const double*, int64_t, int64_t, double*, int);

}  // namespace svfleet
