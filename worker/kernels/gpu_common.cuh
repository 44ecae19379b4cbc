// What the kernels share: numbers of both types, and sums over a warp and a block in fixed order.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "worker/kernels/gpu.h"

namespace svfleet::cuda {

__device__ inline float wide(float x) {
  return x;
}
__device__ inline float wide(bf16 x) {
  return __uint_as_float(unsigned(x.bits) << 16);
}
template <class T>
__device__ inline T rounded(float x) {
  if constexpr (sizeof(T) == 2) {
    const __nv_bfloat16 y = __float2bfloat16_rn(x);
    return {__bfloat16_as_ushort(y)};
  } else {
    return x;
  }
}
// To T and back.
template <class T>
__device__ inline float through(float x) {
  return wide(rounded<T>(x));
}

// N numbers from an address that is aligned to as many, where N * sizeof(T) is 16 or a multiple.
template <int N, class T>
__device__ inline void load_all(const T* from, float* to) {
  constexpr int kEach = 16 / sizeof(T);
  static_assert(N % kEach == 0);
#pragma unroll
  for (int i = 0; i < N; i += kEach) {
    const uint4 raw = *reinterpret_cast<const uint4*>(from + i);
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      if constexpr (sizeof(T) == 2) {
        to[i + 2 * w] = __uint_as_float(words[w] << 16);
        to[i + 2 * w + 1] = __uint_as_float(words[w] & 0xffff0000u);
      } else {
        to[i + w] = __uint_as_float(words[w]);
      }
    }
  }
}
// The first `valid` of N, zeros for the rest; `aligned`: as load_all wants it.
template <int N, class T>
__device__ inline void load(const T* from, int valid, bool aligned, float* to) {
  if constexpr (N * sizeof(T) % 16 == 0) {
    if (aligned && valid >= N) {
      load_all<N>(from, to);
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = i < valid ? wide(from[i]) : 0.0f;
}

__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int by = 16; by; by /= 2) x += __shfl_xor_sync(0xffffffffu, x, by);
  return x;
}
__device__ inline float warp_max(float x) {
#pragma unroll
  for (int by = 16; by; by /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, by));
  return x;
}
// Of a block of `Warps` warps, for all of its threads.
template <int Warps>
__device__ inline float block_sum(float x) {
  __shared__ float sums[Warps];
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  float all = 0;
  for (int w = 0; w < Warps; ++w) all += sums[w];
  __syncthreads();  // before the next one writes
  return all;
}

inline void check_launch(const char* what) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("CUDA error: ") + cudaGetErrorString(error) + " in " +
                             what);
}
inline cudaStream_t of(Stream stream) {
  return static_cast<cudaStream_t>(stream);
}
inline unsigned blocks(int64_t count, int threads) {
  return unsigned((count + threads - 1) / threads);
}

}  // namespace svfleet::cuda
