// What a layer does to its activations beside products and attention, forward and backward.
//
// T is bf16, float or double; Wide<T> is what it is computed in. Matrices are row-major without
// gaps. `threads` and the instruction set change no bit of a result, nor does a row's company.
#pragma once

#include <cstdint>

#include "worker/kernels/activation.h"
#include "worker/kernels/bf16.h"

namespace svfleet {

// RMS norm with s = 1 / sqrt(mean(x^2) + epsilon) of the row. Weights of type T: out = T(T(x * s) *
// weight), as transformers' Llama has it; wide ones: out = T(x * s * weight), as Gemma and OLMo 2
// do. V is T or Wide<T>. x, out [rows, width], weight [width]; inverse_rms [rows] is s, or nullptr.
// out may be x.
template <class T, class V>
void rms_norm(const T* x, const V* weight, int64_t rows, int64_t width, double epsilon, T* out,
              Wide<T>* inverse_rms, int threads);

// d_x += s (g - x s^2 mean(g x)) with g = d_out * weight: straight through the norm's roundings.
// d_out, d_x [rows, width]; inverse_rms [rows] as rms_norm wrote it.
template <class T, class V>
void rms_norm_gradient(const T* x, const V* weight, const Wide<T>* inverse_rms,
                       const Wide<T>* d_out, int64_t rows, int64_t width, Wide<T>* d_x,
                       int threads);

// The heads of a row, and what of each is turned: its first `rotary_dim` numbers, an even count.
struct RotaryShape {
  int heads, head_dim, rotary_dim;
};

// Rotary positions in place, the halves of what is turned against each other: (a, b) becomes
// (a cos - b sin, b cos + a sin), rounded once. x [rows, heads, head_dim]; cos, sin [rows,
// rotary_dim / 2].
template <class T>
void rotate(T* x, const Wide<T>* cos, const Wide<T>* sin, int64_t rows, const RotaryShape& shape,
            int threads);

// The transposed rotation, (a cos + b sin, b cos - a sin), of the gradient d [rows, heads,
// head_dim].
template <class T>
void rotate_gradient(Wide<T>* d, const Wide<T>* cos, const Wide<T>* sin, int64_t rows,
                     const RotaryShape& shape, int threads);

// SwiGLU and its like: out = T(T(act(gate)) * up). out may be gate or up.
template <class T>
void gate_product(Activation act, const T* gate, const T* up, int64_t count, T* out, int threads);

// d_gate = d_out up act'(gate), d_up = d_out T(act(gate)), both written. Either may be d_out.
template <class T>
void gate_product_gradient(Activation act, const T* gate, const T* up, const Wide<T>* d_out,
                           int64_t count, Wide<T>* d_gate, Wide<T>* d_up, int threads);

// h = T(h + y).
template <class T>
void add_rows(T* h, const T* y, int64_t count, int threads);

// h = T(h + T(y * scale)).
template <class T>
void add_scaled(T* h, const T* y, double scale, int64_t count, int threads);

// x = cap tanh(x / cap), in place; with `slope`, 1 - tanh^2 there, its derivative. A is float or
// double.
template <class A>
void soft_cap(A* x, double cap, int64_t count, A* slope, int threads);

// out = T(x), to the nearest, ties to even.
template <class T>
void round_to(const Wide<T>* x, int64_t count, T* out, int threads);

// out = x + change. bf16: the float32 sum is rounded away from zero where its lower 16 bits plus 16
// random bits carry, towards it elsewhere, so that the mean is the sum; a change of 0 leaves x as
// it is. Column c of a row takes bits 16 (c % 4) and up of mix(key of the row, c / 4). float and
// double: the plain sum. x, change, out [rows, width]; keys [rows]. out may be x.
template <class T>
void add_keyed(const T* x, const Wide<T>* change, const uint64_t* keys, int64_t rows, int64_t width,
               T* out, int threads);

// 64 bits that look random, of a key and a value of any kind (small numbers, too).
uint64_t mix(uint64_t key, uint64_t value);

// out = T(x * d[entry of the row]). x, out [rows, r], d [entries, r]; scale_of [rows] names each
// row's entry, nullptr: all have entry 0.
template <class T>
void scale_rows(const Wide<T>* x, const Wide<T>* d, const int* scale_of, int64_t rows, int64_t r,
                T* out, int threads);

// sums[i] += a[row, i] * b[row, i], one row after the other, products and sums in double: rows
// added in two calls have the bits of one. a, b [rows, r], sums [r]; A is float or double.
template <class A>
void add_products(const A* a, const A* b, int64_t rows, int64_t r, double* sums, int threads);

}  // namespace svfleet
