// The functions of elementwise.h on one thread, written over lanes L.
#pragma once

#include "worker/kernels/elementwise_kernels.h"
#include "worker/kernels/keyed_hash.h"
#include "worker/kernels/lane_exp.h"
#include "worker/kernels/lanes.h"

namespace svfleet {
namespace {

inline float square_root(float x) {
  return __builtin_sqrtf(x);
}
inline double square_root(double x) {
  return __builtin_sqrt(x);
}

template <class L, class T, class V>
void rms_norm_lanes(const T* x, const V* weight, int64_t rows, int64_t width, double epsilon,
                    T* out, Wide<T>* inverse_rms) {
  using W = Wide<T>;
  for (int64_t row = 0; row < rows; ++row, x += width, out += width) {
    L squares = L::set(0);
    for_lanes(width, [&](int64_t i, auto count) {
      const L own = L::load(x + i, count);
      squares = fma(own, own, squares);
    });
    const W inverse = W(1) / square_root(squares.sum() / W(width) + W(epsilon));
    const L scale = L::set(inverse);
    for_lanes(width, [&](int64_t i, auto count) {
      // To T, or not at all: V is wide where the product is the only one to be rounded.
      const L normed = (L::load(x + i, count) * scale).template rounded_to<V>();
      (normed * L::load(weight + i, count)).store(out + i, count);
    });
    if (inverse_rms) inverse_rms[row] = inverse;
  }
}

template <class L, class T, class V>
void rms_norm_gradient_lanes(const T* x, const V* weight, const Wide<T>* inverse_rms,
                             const Wide<T>* d_out, int64_t rows, int64_t width, Wide<T>* d_x) {
  using W = Wide<T>;
  for (int64_t row = 0; row < rows; ++row, x += width, d_out += width, d_x += width) {
    L products = L::set(0);
    for_lanes(width, [&](int64_t i, auto count) {
      const L g = L::load(d_out + i, count) * L::load(weight + i, count);
      products = fma(g, L::load(x + i, count), products);
    });
    const W inverse = inverse_rms[row];
    const L scale = L::set(inverse);
    const L along_x = L::set(-(inverse * inverse * (products.sum() / W(width))));
    for_lanes(width, [&](int64_t i, auto count) {
      const L g = L::load(d_out + i, count) * L::load(weight + i, count);
      const L across = fma(along_x, L::load(x + i, count), g);
      fma(scale, across, L::load(d_x + i, count)).store(d_x + i, count);
    });
  }
}

// U is what x lies in. `sign` 1 rotates, -1 rotates back.
template <class L, class U>
void rotate_lanes(U* x, const typename L::Scalar* cos, const typename L::Scalar* sin, int64_t rows,
                  const RotaryShape& shape, int sign) {
  const int half = shape.rotary_dim / 2;
  const L direction = L::set(typename L::Scalar(sign));
  for (int64_t row = 0; row < rows; ++row, cos += half, sin += half)
    for (int head = 0; head < shape.heads; ++head, x += shape.head_dim)
      for_lanes(half, [&](int64_t i, auto count) {
        const L c = L::load(cos + i, count), s = L::load(sin + i, count) * direction;
        const L a = L::load(x + i, count), b = L::load(x + half + i, count);
        (a * c - b * s).store(x + i, count);
        (b * c + a * s).store(x + half + i, count);
      });
}

template <class L, class T>
void rotate_forward(T* x, const Wide<T>* cos, const Wide<T>* sin, int64_t rows,
                    const RotaryShape& shape) {
  rotate_lanes<L>(x, cos, sin, rows, shape, 1);
}

template <class L, class W>
void rotate_back(W* d, const W* cos, const W* sin, int64_t rows, const RotaryShape& shape) {
  rotate_lanes<L>(d, cos, sin, rows, shape, -1);
}

// act(g) = g sigmoid(u(g)) and its slope sigmoid(u) (1 + g u' (1 - sigmoid(u))), by u and u'.
struct SiluGate {
  template <class L>
  static L inner(const L& g) {
    return g;
  }
  // g u'(g).
  template <class L>
  static L growth(const L& g) {
    return g;
  }
};
// (1 + tanh(v)) / 2 is sigmoid(2 v): u = 2 sqrt(2 / pi) (g + 0.044715 g^3).
struct GeluTanhGate {
  static constexpr double kFirst = 1.5957691216057308, kThird = kFirst * 0.044715;
  template <class L>
  static L inner(const L& g) {
    using W = typename L::Scalar;
    return g * fma(g * g, L::set(W(kThird)), L::set(W(kFirst)));
  }
  template <class L>
  static L growth(const L& g) {
    using W = typename L::Scalar;
    return g * fma(g * g, L::set(W(3 * kThird)), L::set(W(kFirst)));
  }
};

template <class L, class T, class Act>
void gate_product_lanes(const T* gate, const T* up, int64_t count, T* out) {
  const L zero = L::set(0), one = L::set(1);
  for_lanes(count, [&](int64_t i, auto n) {
    const L g = L::load(gate + i, n);
    const L acted = g / (one + exp(zero - Act::inner(g)));
    (acted.template rounded_to<T>() * L::load(up + i, n)).store(out + i, n);
  });
}

template <class L, class T, class Act>
void gate_product_gradient_lanes(const T* gate, const T* up, const Wide<T>* d_out, int64_t count,
                                 Wide<T>* d_gate, Wide<T>* d_up) {
  const L zero = L::set(0), one = L::set(1);
  for_lanes(count, [&](int64_t i, auto n) {
    const L g = L::load(gate + i, n), d = L::load(d_out + i, n);
    const L below = one + exp(zero - Act::inner(g));
    const L sigmoid = one / below, acted = g / below;
    const L slope = sigmoid * fma(Act::growth(g), one - sigmoid, one);
    (d * L::load(up + i, n) * slope).store(d_gate + i, n);
    (d * acted.template rounded_to<T>()).store(d_up + i, n);
  });
}

template <class L, class T>
void add_rows_lanes(T* h, const T* y, int64_t count) {
  for_lanes(count,
            [&](int64_t i, auto n) { (L::load(h + i, n) + L::load(y + i, n)).store(h + i, n); });
}

template <class L, class T>
void add_scaled_lanes(T* h, const T* y, Wide<T> scale, int64_t count) {
  const L by = L::set(scale);
  for_lanes(count, [&](int64_t i, auto n) {
    const L scaled = (L::load(y + i, n) * by).template rounded_to<T>();
    (L::load(h + i, n) + scaled).store(h + i, n);
  });
}

// tanh(x) = 1 - 2 / (1 + exp(2 x)), which is 1 where exp is infinite.
template <class L, class W>
void soft_cap_lanes(W* x, W cap, int64_t count, W* slope) {
  const L one = L::set(1), two = L::set(2), limit = L::set(cap), inverse = L::set(1 / cap);
  for_lanes(count, [&](int64_t i, auto n) {
    const L t = one - two / (one + exp(two * (L::load(x + i, n) * inverse)));
    (t * limit).store(x + i, n);
    if (slope) (one - t * t).store(slope + i, n);
  });
}

template <class L, class T>
void round_to_lanes(const Wide<T>* x, int64_t count, T* out) {
  for_lanes(count, [&](int64_t i, auto n) { L::load(x + i, n).store(out + i, n); });
}

template <class L, class T>
void add_keyed_lanes(const T* x, const Wide<T>* change, const uint64_t* keys, int64_t rows,
                     int64_t width, T* out) {
  for (int64_t row = 0; row < rows; ++row, x += width, change += width, out += width) {
    const uint64_t key = scrambled_key(keys[row]);
    for_lanes(width, [&](int64_t i, auto n) {
      const L sum = L::load(x + i, n) + L::load(change + i, n);
      if constexpr (sizeof(T) == 2) {
        uint16_t random[kLanes];
        for (int part = 0; part < kLanes / 4; ++part) {
          const uint64_t bits = mix_scrambled(key, uint64_t(i / 4 + part));
          __builtin_memcpy(random + 4 * part, &bits, sizeof bits);
        }
        sum.store_keyed(out + i, random, n);
      } else {
        sum.store(out + i, n);
      }
    });
  }
}

template <class L, class T>
void scale_rows_lanes(const Wide<T>* x, const Wide<T>* d, const int* scale_of, int64_t rows,
                      int64_t r, T* out) {
  for (int64_t row = 0; row < rows; ++row, x += r, out += r) {
    const Wide<T>* own = d + (scale_of ? scale_of[row] * r : 0);
    for_lanes(
        r, [&](int64_t i, auto n) { (L::load(x + i, n) * L::load(own + i, n)).store(out + i, n); });
  }
}

// Columns that the compiler can keep in registers; there is one order of adding alone.
template <int kColumns, class A>
void add_products_of_columns(const A* a, const A* b, int64_t rows, int64_t width, double* sums) {
  double own[kColumns];
  for (int i = 0; i < kColumns; ++i) own[i] = sums[i];
  for (int64_t row = 0; row < rows; ++row, a += width, b += width)
    for (int i = 0; i < kColumns; ++i) own[i] += double(a[i]) * double(b[i]);
  for (int i = 0; i < kColumns; ++i) sums[i] = own[i];
}

template <class A>
void add_products_of_rows(const A* a, const A* b, int64_t rows, int64_t width, int64_t count,
                          double* sums) {
  int64_t i = 0;
  for (; i + 32 <= count; i += 32) add_products_of_columns<32>(a + i, b + i, rows, width, sums + i);
  for (; i + 8 <= count; i += 8) add_products_of_columns<8>(a + i, b + i, rows, width, sums + i);
  for (; i < count; ++i) add_products_of_columns<1>(a + i, b + i, rows, width, sums + i);
}

template <class L, class T>
ElementwiseKernels<T> elementwise_over_lanes() {
  using W = Wide<T>;
  return {{rms_norm_lanes<L, T, T>, rms_norm_gradient_lanes<L, T, T>},
          {rms_norm_lanes<L, T, W>, rms_norm_gradient_lanes<L, T, W>},
          rotate_forward<L, T>,
          rotate_back<L, W>,
          {gate_product_lanes<L, T, SiluGate>, gate_product_gradient_lanes<L, T, SiluGate>},
          {gate_product_lanes<L, T, GeluTanhGate>, gate_product_gradient_lanes<L, T, GeluTanhGate>},
          add_rows_lanes<L, T>,
          add_scaled_lanes<L, T>,
          soft_cap_lanes<L, W>,
          round_to_lanes<L, T>,
          add_keyed_lanes<L, T>,
          scale_rows_lanes<L, T>,
          add_products_of_rows<W>};
}

}  // namespace
}  // namespace svfleet
