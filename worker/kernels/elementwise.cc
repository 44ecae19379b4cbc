#include "worker/kernels/elementwise.h"

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

constexpr int64_t kStep = 64;  // of elements: a line of the smallest type, twice

}  // namespace

template <class T>
void rms_norm(const T* x, const T* weight, int64_t rows, int64_t width, double epsilon, T* out,
              Wide<T>* inverse_rms, int threads) {
  const auto run = chosen<T>().rms_norm;
  share(rows, 1, rows * width, threads, [=](int64_t first, int64_t count) {
    const int64_t at = first * width;
    run(x + at, weight, count, width, epsilon, out + at,
        inverse_rms ? inverse_rms + first : nullptr);
  });
}

template <class T>
void rms_norm_gradient(const T* x, const T* weight, const Wide<T>* inverse_rms,
                       const Wide<T>* d_out, int64_t rows, int64_t width, Wide<T>* d_x,
                       int threads) {
  const auto run = chosen<T>().rms_norm_gradient;
  share(rows, 1, rows * width, threads, [=](int64_t first, int64_t count) {
    const int64_t at = first * width;
    run(x + at, weight, inverse_rms + first, d_out + at, count, width, d_x + at);
  });
}

template <class T>
void rotate(T* x, const Wide<T>* cos, const Wide<T>* sin, int64_t rows, int heads, int head_dim,
            int threads) {
  const auto run = chosen<T>().rotate;
  const int64_t width = int64_t{heads} * head_dim, half = head_dim / 2;
  share(rows, 1, rows * width, threads, [=](int64_t first, int64_t count) {
    run(x + first * width, cos + first * half, sin + first * half, count, heads, head_dim);
  });
}

template <class T>
void rotate_gradient(Wide<T>* d, const Wide<T>* cos, const Wide<T>* sin, int64_t rows, int heads,
                     int head_dim, int threads) {
  const auto run = chosen<T>().rotate_gradient;
  const int64_t width = int64_t{heads} * head_dim, half = head_dim / 2;
  share(rows, 1, rows * width, threads, [=](int64_t first, int64_t count) {
    run(d + first * width, cos + first * half, sin + first * half, count, heads, head_dim);
  });
}

template <class T>
void gate_product(const T* gate, const T* up, int64_t count, T* out, int threads) {
  const auto run = chosen<T>().gate_product;
  share(count, kStep, count, threads,
        [=](int64_t at, int64_t n) { run(gate + at, up + at, n, out + at); });
}

template <class T>
void gate_product_gradient(const T* gate, const T* up, const Wide<T>* d_out, int64_t count,
                           Wide<T>* d_gate, Wide<T>* d_up, int threads) {
  const auto run = chosen<T>().gate_product_gradient;
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

#define SVFLEET_FOR(T)                                                                            \
  template void rms_norm<T>(const T*, const T*, int64_t, int64_t, double, T*, Wide<T>*, int);     \
  template void rms_norm_gradient<T>(const T*, const T*, const Wide<T>*, const Wide<T>*, int64_t, \
                                     int64_t, Wide<T>*, int);                                     \
  template void rotate<T>(T*, const Wide<T>*, const Wide<T>*, int64_t, int, int, int);            \
  template void rotate_gradient<T>(Wide<T>*, const Wide<T>*, const Wide<T>*, int64_t, int, int,   \
                                   int);                                                          \
  template void gate_product<T>(const T*, const T*, int64_t, T*, int);                            \
  template void gate_product_gradient<T>(const T*, const T*, const Wide<T>*, int64_t, Wide<T>*,   \
                                         Wide<T>*, int);                                          \
  template void add_rows<T>(T*, const T*, int64_t, int);                                          \
  template void round_to<T>(const Wide<T>*, int64_t, T*, int);                                    \
  template void add_keyed<T>(const T*, const Wide<T>*, const uint64_t*, int64_t, int64_t, T*,     \
                             int);                                                                \
  template void scale_rows<T>(const Wide<T>*, const Wide<T>*, const int*, int64_t, int64_t, T*,   \
                              int);
SVFLEET_FOR(bf16)
SVFLEET_FOR(float)
SVFLEET_FOR(double)
#undef SVFLEET_FOR

template void add_products<float>(const float*, const float*, int64_t, int64_t, double*, int);
template void add_products<double>(const double*, const double*, int64_t, int64_t, double*, int);

}  // namespace svfleet
