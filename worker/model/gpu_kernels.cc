#include "worker/model/gpu_kernels.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>

#include "comm/error.h"
#include "worker/kernels/gpu.h"
#include "worker/kernels/gpu_product.h"
#include "worker/model/typed.h"

namespace svfleet::gpu {

bool has_kernels(const at::Tensor& x) {
  return x.is_cuda() && x.scalar_type() != at::kDouble;
}

namespace kernels {
namespace {

cuda::Stream stream_of(const at::Tensor& x) {
  return c10::cuda::getCurrentCUDAStream(x.device().index()).stream();
}

template <class F>
void with(at::ScalarType type, F&& f) {
  if (type == at::kBFloat16) return f(bf16{});
  SVFLEET_CHECK(type == at::kFloat, "type ", int(type), " on a GPU");
  f(0.0f);
}

at::Tensor wide_like(const at::Tensor& x) {
  return at::empty(x.sizes(), x.options().dtype(at::kFloat));
}

cuda::PassView view(const GpuPass& pass) {
  return {pass.rows, pass.positions(), pass.run_of(), pass.table(), pass.most};
}

template <class T>
cuda::Cache<T> cache(const at::Tensor& keys, const at::Tensor& values) {
  return {data_of<T>(keys), data_of<T>(values)};
}

cuda::Copies of(const GpuPass::Batch& batch) {
  return {batch.count, batch.from, batch.to, batch.slots};
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon,
                    at::Tensor* inverse) {
  at::Tensor out = at::empty_like(x);
  if (inverse) *inverse = at::empty({x.size(0)}, x.options().dtype(at::kFloat));
  with(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    cuda::rms_norm<T>(data_of<T>(x), data_of<T>(weight), x.size(0), x.size(1), epsilon,
                      data_of<T>(out), inverse ? data_of<float>(*inverse) : nullptr, stream_of(x));
  });
  return out;
}

void rms_norm_gradient(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverse,
                       const at::Tensor& d_out, const at::Tensor& d_x) {
  with(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    cuda::rms_norm_gradient<T>(data_of<T>(x), data_of<T>(weight), data_of<float>(inverse),
                               data_of<float>(d_out), x.size(0), x.size(1), data_of<float>(d_x),
                               stream_of(x));
  });
}

void rotate(const at::Tensor& x, const Angles& by, int64_t head_dim) {
  with(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    cuda::rotate<T>(data_of<T>(x), data_of<float>(by.cos), data_of<float>(by.sin), x.size(0),
                    int(x.size(1) / head_dim), int(head_dim), stream_of(x));
  });
}

void rotate_gradient(const at::Tensor& d, const Angles& by, int64_t head_dim) {
  cuda::rotate_gradient(data_of<float>(d), data_of<float>(by.cos), data_of<float>(by.sin),
                        d.size(0), int(d.size(1) / head_dim), int(head_dim), stream_of(d));
}

at::Tensor gate_product(const at::Tensor& gate, const at::Tensor& up) {
  at::Tensor out = at::empty_like(gate);
  with(gate.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    cuda::gate_product<T>(data_of<T>(gate), data_of<T>(up), gate.numel(), data_of<T>(out),
                          stream_of(gate));
  });
  return out;
}

void gate_product_gradient(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& d_out,
                           at::Tensor* d_gate, at::Tensor* d_up) {
  *d_gate = at::empty_like(d_out);
  *d_up = at::empty_like(d_out);
  with(gate.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    cuda::gate_product_gradient<T>(data_of<T>(gate), data_of<T>(up), data_of<float>(d_out),
                                   gate.numel(), data_of<float>(*d_gate), data_of<float>(*d_up),
                                   stream_of(gate));
  });
}

at::Tensor add_keyed(const at::Tensor& x, const at::Tensor& change, const at::Tensor& keys) {
  at::Tensor out = at::empty_like(x);
  const at::Tensor there = keys.is_cuda() ? keys : keys.pin_memory().to(x.device(), true);
  with(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    cuda::add_keyed<T>(data_of<T>(x), data_of<float>(change), data_of<uint64_t>(there), x.size(0),
                       x.size(1), data_of<T>(out), stream_of(x));
  });
  return out;
}

at::Tensor scale_rows(const at::Tensor& x, const at::Tensor& d, const at::Tensor& entry_of,
                      at::ScalarType type) {
  at::Tensor out = at::empty(x.sizes(), x.options().dtype(type));
  with(type, [&](auto zero) {
    using T = decltype(zero);
    cuda::scale_rows<T>(data_of<float>(x), data_of<float>(d), data_of<int>(entry_of), x.size(0),
                        x.size(1), data_of<T>(out), stream_of(x));
  });
  return out;
}

void add_products(const at::Tensor& a, const at::Tensor& b, const at::Tensor& from,
                  const at::Tensor& to, const at::Tensor& sums, int64_t offset) {
  cuda::add_products(data_of<float>(a), data_of<float>(b), data_of<int64_t>(from),
                     data_of<int64_t>(to), from.numel(), a.size(1), data_of<double>(sums) + offset,
                     sums.size(1), stream_of(a));
}

at::Tensor product(const at::Tensor& x, const at::Tensor& m, bool back, const at::Tensor& add,
                   const at::Tensor& bias, bool wide) {
  const at::Tensor from = x.contiguous();
  const int64_t rows = x.size(0), out = back ? m.size(1) : m.size(0);
  at::Tensor y;
  with(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const cuda::Product<T> of{data_of<T>(m), m.size(0), m.size(1), back};
    if constexpr (sizeof(T) == 2)
      if (!wide && !add.defined() && !bias.defined()) {
        y = at::empty({rows, out}, x.options());
        if (cuda::multiply_rounded(of, data_of<T>(from), rows, data_of<T>(y), stream_of(x))) return;
      }
    const at::Tensor added = add.defined() ? add.contiguous() : at::Tensor();
    y = at::empty({rows, out}, x.options().dtype(at::kFloat));
    cuda::multiply(of, data_of<T>(from), rows, data_of<float>(added), data_of<float>(y),
                   stream_of(x));
    if (bias.defined()) y.add_(bias);
    if (!wide) y = y.to(x.scalar_type());
  });
  return y;
}

void store(const AttentionShape& shape, const GpuPass& pass, const at::Tensor& k,
           const at::Tensor& v, const at::Tensor& keys, const at::Tensor& values) {
  with(k.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    cuda::store<T>(shape, view(pass), data_of<T>(k), data_of<T>(v), cache<T>(keys, values),
                   stream_of(k));
    for (const GpuPass::Batch& batch : pass.copies())
      cuda::copy<T>(shape, of(batch), cache<T>(keys, values), stream_of(k));
  });
}

at::Tensor attend(const AttentionShape& shape, const GpuPass& pass, const at::Tensor& q,
                  const at::Tensor& keys, const at::Tensor& values, at::Tensor* log_sum) {
  at::Tensor out = at::empty_like(q);
  if (log_sum) *log_sum = at::empty({q.size(0), shape.heads}, q.options().dtype(at::kFloat));
  with(q.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    cuda::attend<T>(shape, view(pass), data_of<T>(q), cache<T>(keys, values), data_of<T>(out),
                    log_sum ? data_of<float>(*log_sum) : nullptr, stream_of(q));
  });
  return out;
}

AttentionGradient attend_gradient(const AttentionShape& shape, const GpuPass& pass,
                                  const at::Tensor& q, const at::Tensor& keys,
                                  const at::Tensor& values, const at::Tensor& out,
                                  const at::Tensor& log_sum, const at::Tensor& d_out) {
  const GpuPass::Readers& readers = pass.readers();
  const at::Tensor d_keys = wide_like(keys), d_values = wide_like(values),
                   along = wide_like(log_sum);
  const at::Tensor row = at::empty({q.size(0), int64_t(shape.kv_heads) * shape.head_dim},
                                   q.options().dtype(at::kFloat));
  AttentionGradient d{wide_like(q), row, at::empty_like(row)};
  const cuda::Stream stream = stream_of(q);
  const cuda::Cache<float> gradient = cache<float>(d_keys, d_values);
  with(q.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    cuda::query_gradient<T>(shape, view(pass), data_of<T>(q), cache<T>(keys, values),
                            data_of<T>(out), data_of<float>(log_sum), data_of<T>(d_out),
                            data_of<float>(d.d_q), data_of<float>(along), stream);
    cuda::key_value_gradient<T>(
        shape, view(pass),
        {readers.pages, readers.page, readers.place, readers.first, readers.runs, readers.run_rows},
        data_of<T>(q), cache<T>(keys, values), data_of<float>(log_sum), data_of<T>(d_out),
        data_of<float>(along), gradient, stream);
  });
  const std::vector<GpuPass::Batch> copies = pass.copies();
  for (auto batch = copies.rbegin(); batch != copies.rend(); ++batch)
    cuda::add_copies(shape, of(*batch), gradient, stream);
  cuda::load_gradient(shape, view(pass), gradient, data_of<float>(d.d_k), data_of<float>(d.d_v),
                      stream);
  return d;
}

NextTokens draw(const at::Tensor& logits, const std::vector<int64_t>& rows,
                const std::vector<double>& uniforms, double temperature) {
  const int64_t n = int64_t(rows.size());
  Upload upload;
  const size_t at_rows = upload.add(rows), at_uniforms = upload.add(uniforms);
  const at::Tensor numbers = upload.to(logits.device());
  const char* base = data_of<char>(numbers);
  const at::Tensor out = at::empty({3, n}, logits.options().dtype(at::kDouble));
  cuda::draw(data_of<float>(logits), logits.size(1),
             reinterpret_cast<const int64_t*>(base + at_rows),
             reinterpret_cast<const double*>(base + at_uniforms), n, temperature,
             data_of<double>(out), stream_of(logits));
  const at::Tensor here = out.cpu();
  const double* told = here.data_ptr<double>();
  NextTokens next;
  for (int64_t i = 0; i < n; ++i) {
    next.tokens.push_back(int(told[i]));
    next.log_probs.push_back(float(told[n + i]));
    next.entropies.push_back(told[2 * n + i]);
  }
  return next;
}

at::Tensor log_probs(const at::Tensor& logits, const std::vector<int64_t>& labels,
                     double temperature) {
  const at::Tensor out = at::empty({logits.size(0)}, logits.options());
  const at::Tensor index = index_tensor(labels, logits.device());
  cuda::log_probs(data_of<float>(logits), logits.size(0), logits.size(1), data_of<int64_t>(index),
                  temperature, data_of<float>(out), stream_of(logits));
  return out;
}

at::Tensor loss_gradient(const at::Tensor& logits, const at::Tensor& base,
                         const TrainedTokens& tokens, int64_t start, KlLoss kl, double temperature,
                         at::ScalarType type, const at::Tensor& log_probs) {
  const int64_t rows = logits.size(0);
  const auto own = [&](const auto& all) {
    return std::vector(all.begin() + start, all.begin() + start + rows);
  };
  Upload upload;
  const size_t at_labels = upload.add(own(tokens.labels)),
               at_weights = upload.add(own(tokens.weights)),
               at_kl = kl == KlLoss::kNone ? 0 : upload.add(own(tokens.kl_weights));
  const at::Tensor numbers = upload.to(logits.device());
  const char* begin = data_of<char>(numbers);
  const auto doubles = [&](size_t at) { return reinterpret_cast<const double*>(begin + at); };
  const at::Tensor d = at::empty(logits.sizes(), logits.options().dtype(type));
  with(type, [&](auto zero) {
    using T = decltype(zero);
    cuda::loss_gradient<T>(data_of<float>(logits), data_of<float>(base), rows, logits.size(1),
                           reinterpret_cast<const int64_t*>(begin + at_labels), doubles(at_weights),
                           kl == KlLoss::kNone ? nullptr : doubles(at_kl), kl == KlLoss::kFull,
                           temperature, data_of<T>(d), data_of<float>(log_probs),
                           stream_of(logits));
  });
  return d;
}

}  // namespace kernels
}  // namespace svfleet::gpu
