// Rows of logits: the draw of a token, log-probabilities and the loss's gradient; see gpu.h. A
// block of threads has a row, whose sums are in double, of 512 tokens each and then in order.
#include "worker/kernels/gpu_common.cuh"

namespace svfleet::cuda {
namespace {

constexpr int kWarps = 16, kThreads = 32 * kWarps;
constexpr int kTokens = 512;  // of a block of the vocabulary
constexpr int kMostBlocks = 1024;

struct Shared {
  double blocks[kMostBlocks];
  double sums[kWarps];
  float tops[kWarps];
  int places[kWarps];
  double total, log_total, other;
  float max;
  int place;
};

__device__ inline double sum_of_warp(double x) {
  for (int by = 16; by; by /= 2) x += __shfl_xor_sync(0xffffffffu, x, by);
  return x;
}

// exp((l - max) / T).
__device__ inline float weight_of(float logit, float max, float temperature) {
  return expf((logit - max) / temperature);
}

// The largest logit and the first token that has it.
__device__ void find_max(const float* row, int64_t vocabulary, Shared* s) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float top = -INFINITY;
  int place = 0;
  for (int64_t v = threadIdx.x; v < vocabulary; v += kThreads)
    if (row[v] > top || row[v] != row[v]) top = row[v], place = int(v);
  const auto better = [](float a, int at_a, float b, int at_b) {  // is a
    return a > b || (a == b && at_a < at_b) || a != a;
  };
  for (int by = 16; by; by /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, top, by);
    const int at = __shfl_xor_sync(0xffffffffu, place, by);
    if (better(other, at, top, place)) top = other, place = at;
  }
  if (lane == 0) s->tops[warp] = top, s->places[warp] = place;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < kWarps; ++w)
      if (better(s->tops[w], s->places[w], top, place)) top = s->tops[w], place = s->places[w];
    s->max = top;
    s->place = place;
  }
  __syncthreads();
}

// total, log_total and each block's share.
__device__ void find_total(const float* row, int64_t vocabulary, float temperature, Shared* s) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int blocks = int((vocabulary + kTokens - 1) / kTokens);
  for (int b = warp; b < blocks; b += kWarps) {
    double sum = 0;
    for (int i = lane; i < kTokens; i += 32) {
      const int64_t v = int64_t(b) * kTokens + i;
      if (v < vocabulary) sum += double(weight_of(row[v], s->max, temperature));
    }
    sum = sum_of_warp(sum);
    if (lane == 0) s->blocks[b] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double total = 0;
    for (int b = 0; b < blocks; ++b) total += s->blocks[b];
    s->total = total;
    s->log_total = log(total);
  }
  __syncthreads();
}

// log pi of a token: the one formula of drawing and of training.
__device__ inline float log_prob(float logit, float temperature, const Shared& s) {
  return float((double(logit) - double(s.max)) / double(temperature) - s.log_total);
}

// Sum over the vocabulary of f(token), for all threads.
template <class F>
__device__ double sum_over(int64_t vocabulary, Shared* s, F f) {
  double sum = 0;
  for (int64_t v = threadIdx.x; v < vocabulary; v += kThreads) sum += f(v);
  sum = sum_of_warp(sum);
  if (threadIdx.x % 32 == 0) s->sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += s->sums[w];
    s->other = sum;
  }
  __syncthreads();
  return s->other;
}

// By the first warp, in s->place: the first token at which the running sum passes `goal`; where
// rounding lets none do so, the last one that has a probability.
__device__ void find_token(const float* row, int64_t vocabulary, float temperature, double goal,
                           Shared* s) {
  const int lane = threadIdx.x % 32, blocks = int((vocabulary + kTokens - 1) / kTokens);
  int block = 0;
  double before = 0, running = 0;
  if (lane == 0)
    for (int b = 0; b < blocks; ++b) {
      if (!(s->blocks[b] > 0)) continue;
      block = b;
      before = running;
      running += s->blocks[b];
      if (running > goal) break;
    }
  block = __shfl_sync(0xffffffffu, block, 0);
  before = __shfl_sync(0xffffffffu, before, 0);
  constexpr int kEach = kTokens / 32;
  const int64_t first = int64_t(block) * kTokens + lane * kEach;
  double own = 0;
  int last = -1;  // of this lane's tokens, the last that has a probability
  for (int i = 0; i < kEach; ++i) {
    const float w = first + i < vocabulary ? weight_of(row[first + i], s->max, temperature) : 0;
    own += double(w);
    if (w > 0) last = int(first) + i;
  }
  double through = own;
  for (int by = 1; by < 32; by *= 2) {
    const double left = __shfl_up_sync(0xffffffffu, through, by);
    if (lane >= by) through += left;
  }
  const double left = __shfl_up_sync(0xffffffffu, through, 1);
  double at = before + (lane ? left : 0);
  int found = -1;
  for (int i = 0; i < kEach && found < 0; ++i) {
    if (first + i >= vocabulary) break;
    at += double(weight_of(row[first + i], s->max, temperature));
    if (at > goal) found = int(first) + i;
  }
  const unsigned passing = __ballot_sync(0xffffffffu, found >= 0);
  const unsigned having = __ballot_sync(0xffffffffu, last >= 0);
  const int of_passing = __shfl_sync(0xffffffffu, found, passing ? __ffs(int(passing)) - 1 : 0);
  const int of_having = __shfl_sync(0xffffffffu, last, having ? 31 - __clz(int(having)) : 0);
  if (lane == 0) s->place = passing ? of_passing : max(0, of_having);
}

__global__ void __launch_bounds__(kThreads)
    draw_rows(const float* logits, int64_t vocabulary, const int64_t* rows, const double* uniforms,
              float temperature, bool greedy, double* out) {
  __shared__ Shared s;
  const float* const row = logits + rows[blockIdx.x] * vocabulary;
  find_max(row, vocabulary, &s);
  find_total(row, vocabulary, temperature, &s);
  const double entropy =
      s.log_total - sum_over(vocabulary, &s, [&](int64_t v) {
                      const float w = weight_of(row[v], s.max, temperature);
                      return w > 0 ? double(w) * double((row[v] - s.max) / temperature) : 0.0;
                    }) / s.total;
  if (!greedy && threadIdx.x < 32)
    find_token(row, vocabulary, temperature, uniforms[blockIdx.x] * s.total, &s);
  __syncthreads();
  if (threadIdx.x) return;
  const int64_t n = gridDim.x;
  out[blockIdx.x] = s.place;
  out[n + blockIdx.x] = log_prob(row[s.place], temperature, s);
  out[2 * n + blockIdx.x] = entropy;
}

__global__ void __launch_bounds__(kThreads)
    log_prob_rows(const float* logits, int64_t vocabulary, const int64_t* labels, float temperature,
                  float* out) {
  __shared__ Shared s;
  const float* const row = logits + int64_t(blockIdx.x) * vocabulary;
  find_max(row, vocabulary, &s);
  find_total(row, vocabulary, temperature, &s);
  if (threadIdx.x == 0) out[blockIdx.x] = log_prob(row[labels[blockIdx.x]], temperature, s);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    loss_gradient_rows(const float* logits, const float* base, int64_t vocabulary,
                       const int64_t* labels, const double* weights, const double* kl_weights,
                       bool full, float temperature, T* d_logits, float* log_probs) {
  __shared__ Shared s, of_base;
  const int64_t r = blockIdx.x;
  const float* const row = logits + r * vocabulary;
  const float* const base_row = base ? base + r * vocabulary : nullptr;
  const int64_t label = labels[r];
  double weight = weights[r], kl_weight = kl_weights ? kl_weights[r] : 0;
  find_max(row, vocabulary, &s);
  find_total(row, vocabulary, temperature, &s);
  const float own = log_prob(row[label], temperature, s);
  if (threadIdx.x == 0) log_probs[r] = own;
  double kl = 0;
  if (kl_weight != 0) {
    find_max(base_row, vocabulary, &of_base);
    find_total(base_row, vocabulary, temperature, &of_base);
    if (full) {
      kl = sum_over(vocabulary, &s,
                    [&](int64_t v) {
                      const float w = weight_of(row[v], s.max, temperature);
                      return w > 0 ? double(w) * double(log_prob(row[v], temperature, s) -
                                                        log_prob(base_row[v], temperature, of_base))
                                   : 0.0;
                    }) /
           s.total;
    } else {  // its gradient is (log ratio) d log pi
      weight -= kl_weight * double(own - log_prob(base_row[label], temperature, of_base));
      kl_weight = 0;
    }
  }
  const float scale = float(1 / s.total), w = float(weight), k = float(kl_weight);
  for (int64_t v = threadIdx.x; v < vocabulary; v += kThreads) {
    const float pi = weight_of(row[v], s.max, temperature) * scale;
    float d = w == 0 ? 0 : w * (pi - (v == label ? 1.0f : 0.0f));
    if (k != 0 && pi > 0)
      d += k * pi *
           (log_prob(row[v], temperature, s) - log_prob(base_row[v], temperature, of_base) -
            float(kl));
    d_logits[r * vocabulary + v] = rounded<T>(w == 0 && k == 0 ? 0 : d / temperature);
  }
}

void check_vocabulary(int64_t vocabulary) {
  if (vocabulary > int64_t(kTokens) * kMostBlocks)
    throw std::runtime_error("a vocabulary of " + std::to_string(vocabulary) +
                             " is too large for a GPU here");
}

}  // namespace

void draw(const float* logits, int64_t vocabulary, const int64_t* rows, const double* uniforms,
          int64_t draws, double temperature, double* out, Stream stream) {
  check_vocabulary(vocabulary);
  const bool greedy = temperature <= 0;
  draw_rows<<<unsigned(draws), kThreads, 0, of(stream)>>>(
      logits, vocabulary, rows, uniforms, greedy ? 1.0f : float(temperature), greedy, out);
  check_launch("draw");
}

void log_probs(const float* logits, int64_t rows, int64_t vocabulary, const int64_t* labels,
               double temperature, float* out, Stream stream) {
  check_vocabulary(vocabulary);
  log_prob_rows<<<unsigned(rows), kThreads, 0, of(stream)>>>(
      logits, vocabulary, labels, temperature <= 0 ? 1.0f : float(temperature), out);
  check_launch("log_probs");
}

template <class T>
void loss_gradient(const float* logits, const float* base, int64_t rows, int64_t vocabulary,
                   const int64_t* labels, const double* weights, const double* kl_weights,
                   bool full, double temperature, T* d_logits, float* log_probs, Stream stream) {
  check_vocabulary(vocabulary);
  loss_gradient_rows<T><<<unsigned(rows), kThreads, 0, of(stream)>>>(
      logits, base, vocabulary, labels, weights, kl_weights, full,
      temperature <= 0 ? 1.0f : float(temperature), d_logits, log_probs);
  check_launch("loss_gradient");
}

template void loss_gradient(const float*, const float*, int64_t, int64_t, const int64_t*,
                            const double*, const double*, bool, double, bf16*, float*, Stream);
template void loss_gradient(const float*, const float*, int64_t, int64_t, const int64_t*,
                            const double*, const double*, bool, double, float*, float*, Stream);

}  // namespace svfleet::cuda
