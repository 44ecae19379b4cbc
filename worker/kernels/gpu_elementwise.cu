// Norm, rotary, gate, keyed rounding, sums of products; see gpu.h.
#include "worker/kernels/gpu_common.cuh"
#include "worker/kernels/keyed_hash.h"

namespace svfleet::cuda {
namespace {

constexpr int kThreads = 256;

// keyed_hash.h for the device.
__device__ inline uint64_t scramble_on_device(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

template <class T>
__global__ void rms_norm_rows(const T* x, const T* weight, int64_t width, float epsilon, T* out,
                              float* inverse) {
  const int64_t row = blockIdx.x;
  x += row * width;
  float sum = 0;
  for (int64_t c = threadIdx.x; c < width; c += kThreads) sum += wide(x[c]) * wide(x[c]);
  const float scale = rsqrtf(block_sum<kThreads / 32>(sum) / float(width) + epsilon);
  if (inverse && threadIdx.x == 0) inverse[row] = scale;
  for (int64_t c = threadIdx.x; c < width; c += kThreads)
    out[row * width + c] = rounded<T>(through<T>(wide(x[c]) * scale) * wide(weight[c]));
}

template <class T>
__global__ void rms_norm_gradient_rows(const T* x, const T* weight, const float* inverse,
                                       const float* d_out, int64_t width, float* d_x) {
  const int64_t row = blockIdx.x;
  x += row * width, d_out += row * width, d_x += row * width;
  const float scale = inverse[row];
  float sum = 0;
  for (int64_t c = threadIdx.x; c < width; c += kThreads)
    sum += d_out[c] * wide(weight[c]) * (wide(x[c]) * scale);
  const float along = block_sum<kThreads / 32>(sum) / float(width);
  for (int64_t c = threadIdx.x; c < width; c += kThreads)
    d_x[c] += (d_out[c] * wide(weight[c]) - wide(x[c]) * scale * along) * scale;
}

// sign -1 turns back.
template <class T>
__global__ void rotate_all(T* x, const float* cos, const float* sin, int64_t count, int heads,
                           int half, float sign) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  const int64_t c = i % half, head = i / half, row = head / heads;
  T* const low = x + head * 2 * half + c;
  const float co = cos[row * half + c], si = sign * sin[row * half + c];
  const float a = wide(low[0]), b = wide(low[half]);
  low[0] = rounded<T>(a * co - b * si);
  low[half] = rounded<T>(b * co + a * si);
}

__device__ inline float sigmoid(float x) {
  return 1 / (1 + expf(-x));
}

template <class T>
__global__ void gate_all(const T* gate, const T* up, int64_t count, T* out) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  const float g = wide(gate[i]);
  out[i] = rounded<T>(through<T>(g * sigmoid(g)) * wide(up[i]));
}

template <class T>
__global__ void gate_gradient_all(const T* gate, const T* up, const float* d_out, int64_t count,
                                  float* d_gate, float* d_up) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  const float g = wide(gate[i]), s = sigmoid(g), d = d_out[i];
  d_up[i] = d * through<T>(g * s);
  d_gate[i] = d * wide(up[i]) * (s * (1 + g * (1 - s)));
}

template <class T>
__global__ void add_keyed_all(const T* x, const float* change, const uint64_t* keys, int64_t count,
                              int64_t width, T* out) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  const float sum = wide(x[i]) + change[i];
  if constexpr (sizeof(T) == 2) {
    const int64_t row = i / width, c = i % width;
    const uint64_t bits =
        scramble_on_device(scramble_on_device(keys[row] + kGolden) + uint64_t(c / 4 + 1) * kGolden);
    const unsigned chance = unsigned(bits >> (c % 4 * 16)) & 0xffff;
    if (isfinite(sum))
      out[i] = {uint16_t((__float_as_uint(sum) + chance) >> 16)};
    else
      out[i] = rounded<T>(sum);
  } else {
    out[i] = sum;
  }
}

template <class T>
__global__ void scale_all(const float* x, const float* d, const int* entry_of, int64_t count,
                          int64_t r, T* out) {
  const int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  const int64_t row = i / r, c = i % r;
  out[i] = rounded<T>(x[i] * d[(entry_of ? entry_of[row] * r : 0) + c]);
}

__global__ void add_products_columns(const float* a, const float* b, const int64_t* from,
                                     const int64_t* to, int64_t r, double* sums, int64_t stride) {
  const int64_t c = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (c >= r) return;
  const int64_t end = to[blockIdx.y];
  double sum = 0;
#pragma unroll 8
  for (int64_t row = from[blockIdx.y]; row < end; ++row)
    sum += double(a[row * r + c]) * double(b[row * r + c]);
  sums[blockIdx.y * stride + c] += sum;
}

}  // namespace

template <class T>
void rms_norm(const T* x, const T* weight, int64_t rows, int64_t width, double epsilon, T* out,
              float* inverse, Stream stream) {
  rms_norm_rows<T>
      <<<unsigned(rows), kThreads, 0, of(stream)>>>(x, weight, width, float(epsilon), out, inverse);
  check_launch("rms_norm");
}
template <class T>
void rms_norm_gradient(const T* x, const T* weight, const float* inverse, const float* d_out,
                       int64_t rows, int64_t width, float* d_x, Stream stream) {
  rms_norm_gradient_rows<T>
      <<<unsigned(rows), kThreads, 0, of(stream)>>>(x, weight, inverse, d_out, width, d_x);
  check_launch("rms_norm_gradient");
}
template <class T>
void rotate(T* x, const float* cos, const float* sin, int64_t rows, int heads, int head_dim,
            Stream stream) {
  const int64_t count = rows * heads * (head_dim / 2);
  rotate_all<T><<<blocks(count, kThreads), kThreads, 0, of(stream)>>>(x, cos, sin, count, heads,
                                                                      head_dim / 2, 1);
  check_launch("rotate");
}
void rotate_gradient(float* d, const float* cos, const float* sin, int64_t rows, int heads,
                     int head_dim, Stream stream) {
  const int64_t count = rows * heads * (head_dim / 2);
  rotate_all<float><<<blocks(count, kThreads), kThreads, 0, of(stream)>>>(d, cos, sin, count, heads,
                                                                          head_dim / 2, -1);
  check_launch("rotate_gradient");
}
template <class T>
void gate_product(const T* gate, const T* up, int64_t count, T* out, Stream stream) {
  gate_all<T><<<blocks(count, kThreads), kThreads, 0, of(stream)>>>(gate, up, count, out);
  check_launch("gate_product");
}
template <class T>
void gate_product_gradient(const T* gate, const T* up, const float* d_out, int64_t count,
                           float* d_gate, float* d_up, Stream stream) {
  gate_gradient_all<T>
      <<<blocks(count, kThreads), kThreads, 0, of(stream)>>>(gate, up, d_out, count, d_gate, d_up);
  check_launch("gate_product_gradient");
}
template <class T>
void add_keyed(const T* x, const float* change, const uint64_t* keys, int64_t rows, int64_t width,
               T* out, Stream stream) {
  const int64_t count = rows * width;
  add_keyed_all<T>
      <<<blocks(count, kThreads), kThreads, 0, of(stream)>>>(x, change, keys, count, width, out);
  check_launch("add_keyed");
}
template <class T>
void scale_rows(const float* x, const float* d, const int* entry_of, int64_t rows, int64_t r,
                T* out, Stream stream) {
  const int64_t count = rows * r;
  scale_all<T><<<blocks(count, kThreads), kThreads, 0, of(stream)>>>(x, d, entry_of, count, r, out);
  check_launch("scale_rows");
}
void add_products(const float* a, const float* b, const int64_t* from, const int64_t* to,
                  int64_t ranges, int64_t r, double* sums, int64_t stride, Stream stream) {
  add_products_columns<<<dim3(blocks(r, 64), unsigned(ranges)), 64, 0, of(stream)>>>(
      a, b, from, to, r, sums, stride);
  check_launch("add_products");
}

#define SVFLEET_OF(T)                                                                             \
  template void rms_norm(const T*, const T*, int64_t, int64_t, double, T*, float*, Stream);       \
  template void rms_norm_gradient(const T*, const T*, const float*, const float*, int64_t,        \
                                  int64_t, float*, Stream);                                       \
  template void rotate(T*, const float*, const float*, int64_t, int, int, Stream);                \
  template void gate_product(const T*, const T*, int64_t, T*, Stream);                            \
  template void gate_product_gradient(const T*, const T*, const float*, int64_t, float*, float*,  \
                                      Stream);                                                    \
  template void add_keyed(const T*, const float*, const uint64_t*, int64_t, int64_t, T*, Stream); \
  template void scale_rows(const float*, const float*, const int*, int64_t, int64_t, T*, Stream);
SVFLEET_OF(bf16)
SVFLEET_OF(float)
#undef SVFLEET_OF

}  // namespace svfleet::cuda
