// Attention over pages of 32 tokens, and its gradient; see gpu.h. A block of four warps has one
// row and up to kHeads query heads that share a key head. Warp w takes pages w, w + 4, ... of the
// row's own sequence, from the first to the row's own token, and the four results meet in order:
// whether the row is one of a tree or of a decoding step, its bits are the same.
#include "worker/kernels/gpu_common.cuh"

namespace svfleet::cuda {
namespace {

constexpr int kHeads = 4, kWarps = 4, kThreads = 32 * kWarps;

// What a block of attend and query_gradient has.
struct Block {
  int64_t row, count;  // tokens that it sees
  int kv_head, head, heads, d;
  const int* pages;

  __device__ Block(const AttentionShape& shape, const PassView& pass) {
    const int share = shape.heads / shape.kv_heads, groups = (share + kHeads - 1) / kHeads;
    row = blockIdx.x;
    kv_head = int(blockIdx.y) / groups;
    const int group = int(blockIdx.y) % groups;
    head = kv_head * share + group * kHeads;
    heads = min(kHeads, share - group * kHeads);
    d = shape.head_dim;
    count = pass.positions[row] + 1;
    pages = pass.table + pass.run_of[row] * pass.most;
  }
  // Rows of page p that it sees.
  __device__ int seen(int64_t p) const {
    return int(min(int64_t(kPageTokens), count - p * kPageTokens));
  }
  __device__ int64_t at(const AttentionShape& shape, int64_t p, int slot) const {
    return ((int64_t(pages[p]) * kPageTokens + slot) * shape.kv_heads + kv_head) * d;
  }
};

template <class T>
__device__ void heads_to_shared(const T* from, const AttentionShape& shape, const Block& b,
                                float* to) {
  for (int i = threadIdx.x; i < kHeads * b.d; i += kThreads)
    to[i] = i < b.heads * b.d ? wide(from[(b.row * shape.heads + b.head) * b.d + i]) : 0.0f;
}

// sums[h] = own[h] . key, with own in shared memory.
template <class T>
__device__ void dots(const T* key, const float* own, int d, float* sums) {
  const bool aligned = d % 8 == 0;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) sums[h] = 0;
  for (int c = 0; c < d; c += 8) {
    float k[8];
    load<8>(key + c, d - c, aligned, k);
#pragma unroll
    for (int h = 0; h < kHeads; ++h)
#pragma unroll
      for (int i = 0; i < 8; ++i)
        if (aligned || c + i < d) sums[h] += own[h * d + c + i] * k[i];
  }
}

// This lane's dims of a key or value.
template <int Dims, class T>
__device__ void own_dims(const T* from, int d, float* to) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < Dims; ++i) to[i] = lane * Dims + i < d ? wide(from[lane * Dims + i]) : 0.0f;
}

template <class T, int Dims>
__global__ void __launch_bounds__(kThreads)
    attend_rows(AttentionShape shape, PassView pass, const T* q, Cache<T> cache, T* out,
                float* log_sum) {
  extern __shared__ float shared[];
  const Block b(shape, pass);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  heads_to_shared(q, shape, b, shared);
  __syncthreads();
  float most[kHeads], sum[kHeads], acc[kHeads][Dims];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    most[h] = -INFINITY, sum[h] = 0;
#pragma unroll
    for (int i = 0; i < Dims; ++i) acc[h][i] = 0;
  }
  const int64_t pages = (b.count + kPageTokens - 1) / kPageTokens;
  for (int64_t p = warp; p < pages; p += kWarps) {
    const int seen = b.seen(p);
    float s[kHeads];
    if (lane < seen) dots(cache.keys + b.at(shape, p, lane), shared, b.d, s);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      s[h] = lane < seen ? s[h] * float(shape.scale) : -INFINITY;
      const float now = fmaxf(most[h], warp_max(s[h])), before = expf(most[h] - now);
      most[h] = now;
      s[h] = expf(s[h] - now);
      sum[h] = sum[h] * before + warp_sum(s[h]);
#pragma unroll
      for (int i = 0; i < Dims; ++i) acc[h][i] *= before;
    }
    for (int j = 0; j < seen; ++j) {
      float v[Dims];
      own_dims<Dims>(cache.values + b.at(shape, p, j), b.d, v);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const float weight = __shfl_sync(0xffffffffu, s[h], j);
#pragma unroll
        for (int i = 0; i < Dims; ++i) acc[h][i] += weight * v[i];
      }
    }
  }
  // [warp][head]: most, sum; then [warp][head][d].
  float* const tops = shared + kHeads * b.d;
  float* const all = tops + 2 * kWarps * kHeads;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    if (lane == 0)
      tops[2 * (warp * kHeads + h)] = most[h], tops[2 * (warp * kHeads + h) + 1] = sum[h];
#pragma unroll
    for (int i = 0; i < Dims; ++i)
      if (lane * Dims + i < b.d) all[(warp * kHeads + h) * b.d + lane * Dims + i] = acc[h][i];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < b.heads * b.d; i += kThreads) {
    const int h = i / b.d;
    float top = -INFINITY;
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, tops[2 * (w * kHeads + h)]);
    float total = 0, value = 0;
    for (int w = 0; w < kWarps; ++w) {
      const float share = expf(tops[2 * (w * kHeads + h)] - top);
      total += share * tops[2 * (w * kHeads + h) + 1];
      value += share * all[w * kHeads * b.d + i];
    }
    out[(b.row * shape.heads + b.head) * b.d + i] = rounded<T>(value / total);
    if (log_sum && i % b.d == 0) log_sum[b.row * shape.heads + b.head + h] = top + logf(total);
  }
}

template <class T, int Dims>
__global__ void __launch_bounds__(kThreads)
    query_gradient_rows(AttentionShape shape, PassView pass, const T* q, Cache<T> cache,
                        const T* out, const float* log_sum, const T* d_out, float* d_q,
                        float* along) {
  extern __shared__ float shared[];
  const Block b(shape, pass);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float* const d_own = shared + kHeads * b.d;
  float* const alongs = d_own + kHeads * b.d;  // [heads], and log_sum [heads]
  float* const all = alongs + 2 * kHeads;
  heads_to_shared(q, shape, b, shared);
  heads_to_shared(d_out, shape, b, d_own);
  __syncthreads();
  for (int h = warp; h < kHeads; h += kWarps) {
    float sum = 0;
    if (h < b.heads)
      for (int c = lane; c < b.d; c += 32)
        sum += d_own[h * b.d + c] * wide(out[(b.row * shape.heads + b.head + h) * b.d + c]);
    sum = warp_sum(sum);
    if (lane == 0) {
      const int64_t at = b.row * shape.heads + b.head + h;
      alongs[h] = sum;
      alongs[kHeads + h] = h < b.heads ? log_sum[at] : 0;
      if (h < b.heads) along[at] = sum;
    }
  }
  __syncthreads();
  float acc[kHeads][Dims];
#pragma unroll
  for (int h = 0; h < kHeads; ++h)
#pragma unroll
    for (int i = 0; i < Dims; ++i) acc[h][i] = 0;
  const int64_t pages = (b.count + kPageTokens - 1) / kPageTokens;
  for (int64_t p = warp; p < pages; p += kWarps) {
    const int seen = b.seen(p);
    float s[kHeads], d_p[kHeads];
    if (lane < seen) {
      dots(cache.keys + b.at(shape, p, lane), shared, b.d, s);
      dots(cache.values + b.at(shape, p, lane), d_own, b.d, d_p);
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h)
      s[h] = lane < seen ? expf(s[h] * float(shape.scale) - alongs[kHeads + h]) *
                               (d_p[h] - alongs[h]) * float(shape.scale)
                         : 0;
    for (int j = 0; j < seen; ++j) {
      float k[Dims];
      own_dims<Dims>(cache.keys + b.at(shape, p, j), b.d, k);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const float weight = __shfl_sync(0xffffffffu, s[h], j);
#pragma unroll
        for (int i = 0; i < Dims; ++i) acc[h][i] += weight * k[i];
      }
    }
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h)
#pragma unroll
    for (int i = 0; i < Dims; ++i)
      if (lane * Dims + i < b.d) all[(warp * kHeads + h) * b.d + lane * Dims + i] = acc[h][i];
  __syncthreads();
  for (int i = threadIdx.x; i < b.heads * b.d; i += kThreads) {
    float sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += all[w * kHeads * b.d + i];
    d_q[(b.row * shape.heads + b.head) * b.d + i] = sum;
  }
}

constexpr int kParts = 8;  // threads that share a slot of a page, beside each other

// A block has a page and a key head; eight threads a slot, `Dims` dims each.
template <class T, int Dims>
__global__ void __launch_bounds__(kParts* kPageTokens)
    key_value_gradient_pages(AttentionShape shape, PassView pass, Readers readers, const T* q,
                             Cache<T> cache, const float* log_sum, const T* d_out,
                             const float* along, Cache<float> gradient) {
  const int d = shape.head_dim, share = shape.heads / shape.kv_heads, kv_head = int(blockIdx.y);
  const int slot = threadIdx.x / kParts, from = int(threadIdx.x) % kParts * Dims;
  const int valid = max(0, min(Dims, d - from));
  const bool aligned = d % 8 == 0;
  const int page = readers.page[blockIdx.x];
  const int64_t first = int64_t(readers.place[blockIdx.x]) * kPageTokens, own = first + slot;
  const int64_t place =
      ((int64_t(page) * kPageTokens + slot) * shape.kv_heads + kv_head) * d + from;
  float k[Dims], v[Dims], d_k[Dims], d_v[Dims];
  load<Dims>(cache.keys + place, valid, aligned, k);
  load<Dims>(cache.values + place, valid, aligned, v);
#pragma unroll
  for (int i = 0; i < Dims; ++i) d_k[i] = d_v[i] = 0;
  for (int r = readers.first[blockIdx.x]; r < readers.first[blockIdx.x + 1]; ++r) {
    const int run = readers.runs[r];
    const int64_t begin = readers.run_rows[run], end = readers.run_rows[run + 1];
    const int64_t start = begin + max(int64_t(0), first - pass.positions[begin]);
    for (int64_t row = start; row < end; ++row) {
      const bool sees = pass.positions[row] >= own;
      for (int h = 0; h < share; ++h) {
        const int64_t head = row * shape.heads + kv_head * share + h;
        float x[Dims], g[Dims], s = 0, d_p = 0;
        load<Dims>(q + head * d + from, valid, aligned, x);
        load<Dims>(d_out + head * d + from, valid, aligned, g);
#pragma unroll
        for (int i = 0; i < Dims; ++i) s += x[i] * k[i], d_p += g[i] * v[i];
#pragma unroll
        for (int by = 1; by < kParts; by *= 2) {
          s += __shfl_xor_sync(0xffffffffu, s, by);
          d_p += __shfl_xor_sync(0xffffffffu, d_p, by);
        }
        if (!sees) continue;
        const float p = expf(s * float(shape.scale) - log_sum[head]);
        const float d_s = p * (d_p - along[head]) * float(shape.scale);
#pragma unroll
        for (int i = 0; i < Dims; ++i) d_k[i] += d_s * x[i], d_v[i] += p * g[i];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < Dims; ++i)
    if (i < valid) gradient.keys[place + i] = d_k[i], gradient.values[place + i] = d_v[i];
}

__device__ int64_t slot_of(const PassView& pass, int64_t row) {
  const int64_t position = pass.positions[row];
  return int64_t(pass.table[pass.run_of[row] * pass.most + position / kPageTokens]) * kPageTokens +
         position % kPageTokens;
}

template <class T>
__global__ void store_rows(int64_t width, PassView pass, const T* k, const T* v, Cache<T> cache) {
  const int64_t row = blockIdx.x, to = slot_of(pass, row) * width;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    cache.keys[to + i] = k[row * width + i];
    cache.values[to + i] = v[row * width + i];
  }
}

__global__ void load_rows(int64_t width, PassView pass, Cache<float> gradient, float* d_k,
                          float* d_v) {
  const int64_t row = blockIdx.x, from = slot_of(pass, row) * width;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    d_k[row * width + i] = gradient.keys[from + i];
    d_v[row * width + i] = gradient.values[from + i];
  }
}

template <class T>
__global__ void copy_pages(int64_t width, Copies copies, Cache<T> cache) {
  const int c = int(blockIdx.x), slot = int(blockIdx.y);
  if (slot >= copies.slots[c]) return;
  const int64_t from = (int64_t(copies.from[c]) * kPageTokens + slot) * width;
  const int64_t to = (int64_t(copies.to[c]) * kPageTokens + slot) * width;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    cache.keys[to + i] = cache.keys[from + i];
    cache.values[to + i] = cache.values[from + i];
  }
}

// The block of the first copy of each `from` adds all of them.
__global__ void add_copied_pages(int64_t width, Copies copies, Cache<float> gradient) {
  const int first = int(blockIdx.x), slot = int(blockIdx.y), page = copies.from[first];
  if (first && copies.from[first - 1] == page) return;
  int64_t last = first;
  while (last + 1 < copies.count && copies.from[last + 1] == page) ++last;
  const int64_t to = (int64_t(page) * kPageTokens + slot) * width;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    float key = gradient.keys[to + i], value = gradient.values[to + i];
    for (int64_t c = last; c >= first; --c) {
      if (slot >= copies.slots[c]) continue;
      const int64_t from = (int64_t(copies.to[c]) * kPageTokens + slot) * width + i;
      key += gradient.keys[from], value += gradient.values[from];
    }
    gradient.keys[to + i] = key, gradient.values[to + i] = value;
  }
}

dim3 grid_of(const AttentionShape& shape, const PassView& pass) {
  const int share = shape.heads / shape.kv_heads;
  return dim3(unsigned(pass.rows), unsigned(shape.kv_heads * ((share + kHeads - 1) / kHeads)));
}

// Calls f with a constant of at least head_dim / parts, as a power of two from `Least` on.
template <int Least, class F>
void with_dims(const AttentionShape& shape, int parts, F f) {
  const int dims = (shape.head_dim + parts - 1) / parts;
  if (dims <= Least) return f(std::integral_constant<int, Least>());
  if (dims <= 2 * Least) return f(std::integral_constant<int, 2 * Least>());
  if (dims <= 4 * Least) return f(std::integral_constant<int, 4 * Least>());
  if (dims <= 8 * Least) return f(std::integral_constant<int, 8 * Least>());
  throw std::runtime_error("attention on a GPU: heads of " + std::to_string(shape.head_dim) +
                           " are too wide");
}

int64_t width_of(const AttentionShape& shape) {
  return int64_t(shape.kv_heads) * shape.head_dim;
}

}  // namespace

template <class T>
void store(const AttentionShape& shape, const PassView& pass, const T* k, const T* v,
           const Cache<T>& cache, Stream stream) {
  store_rows<T><<<unsigned(pass.rows), 128, 0, of(stream)>>>(width_of(shape), pass, k, v, cache);
  check_launch("store");
}
template <class T>
void copy(const AttentionShape& shape, const Copies& copies, const Cache<T>& cache, Stream stream) {
  copy_pages<T><<<dim3(unsigned(copies.count), kPageTokens), 128, 0, of(stream)>>>(width_of(shape),
                                                                                   copies, cache);
  check_launch("copy");
}
void add_copies(const AttentionShape& shape, const Copies& copies, const Cache<float>& gradient,
                Stream stream) {
  add_copied_pages<<<dim3(unsigned(copies.count), kPageTokens), 128, 0, of(stream)>>>(
      width_of(shape), copies, gradient);
  check_launch("add_copies");
}
void load_gradient(const AttentionShape& shape, const PassView& pass, const Cache<float>& gradient,
                   float* d_k, float* d_v, Stream stream) {
  load_rows<<<unsigned(pass.rows), 128, 0, of(stream)>>>(width_of(shape), pass, gradient, d_k, d_v);
  check_launch("load_gradient");
}

template <class T>
void attend(const AttentionShape& shape, const PassView& pass, const T* q, const Cache<T>& cache,
            T* out, float* log_sum, Stream stream) {
  const size_t bytes =
      sizeof(float) * size_t(kHeads * shape.head_dim * (1 + kWarps) + 2 * kWarps * kHeads);
  with_dims<1>(shape, 32, [&](auto dims) {
    attend_rows<T, dims()><<<grid_of(shape, pass), kThreads, bytes, of(stream)>>>(
        shape, pass, q, cache, out, log_sum);
  });
  check_launch("attend");
}
template <class T>
void query_gradient(const AttentionShape& shape, const PassView& pass, const T* q,
                    const Cache<T>& cache, const T* out, const float* log_sum, const T* d_out,
                    float* d_q, float* along, Stream stream) {
  const size_t bytes = sizeof(float) * size_t(kHeads * shape.head_dim * (2 + kWarps) + 2 * kHeads);
  with_dims<1>(shape, 32, [&](auto dims) {
    query_gradient_rows<T, dims()><<<grid_of(shape, pass), kThreads, bytes, of(stream)>>>(
        shape, pass, q, cache, out, log_sum, d_out, d_q, along);
  });
  check_launch("query_gradient");
}
template <class T>
void key_value_gradient(const AttentionShape& shape, const PassView& pass, const Readers& readers,
                        const T* q, const Cache<T>& cache, const float* log_sum, const T* d_out,
                        const float* along, const Cache<float>& gradient, Stream stream) {
  with_dims<4>(shape, kParts, [&](auto dims) {
    key_value_gradient_pages<T, dims()>
        <<<dim3(unsigned(readers.pages), unsigned(shape.kv_heads)), kParts * kPageTokens, 0,
           of(stream)>>>(shape, pass, readers, q, cache, log_sum, d_out, along, gradient);
  });
  check_launch("key_value_gradient");
}

#define SVFLEET_OF(T)                                                                              \
  template void store(const AttentionShape&, const PassView&, const T*, const T*, const Cache<T>&, \
                      Stream);                                                                     \
  template void copy(const AttentionShape&, const Copies&, const Cache<T>&, Stream);               \
  template void attend(const AttentionShape&, const PassView&, const T*, const Cache<T>&, T*,      \
                       float*, Stream);                                                            \
  template void query_gradient(const AttentionShape&, const PassView&, const T*, const Cache<T>&,  \
                               const T*, const float*, const T*, float*, float*, Stream);          \
  template void key_value_gradient(const AttentionShape&, const PassView&, const Readers&,         \
                                   const T*, const Cache<T>&, const float*, const T*,              \
                                   const float*, const Cache<float>&, Stream);
SVFLEET_OF(bf16)
SVFLEET_OF(float)
#undef SVFLEET_OF

}  // namespace svfleet::cuda
