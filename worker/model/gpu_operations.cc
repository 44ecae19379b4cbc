#include "worker/model/gpu_operations.h"

#include <ATen/ATen.h>

#include <limits>

#include "worker/model/typed.h"

namespace svfleet::gpu {
namespace {

// x [n, heads, d] of any type -> [kv_heads, share * n, d] wide: the heads that share a key head.
at::Tensor by_key_head(const at::Tensor& x, int64_t kv_heads) {
  const int64_t n = x.size(0), share = x.size(1) / kv_heads, d = x.size(2);
  return x.to(wide_of(x))
      .view({n, kv_heads, share, d})
      .permute({1, 2, 0, 3})
      .reshape({kv_heads, share * n, d});
}

at::Tensor by_query(const at::Tensor& x, int64_t n) {  // the other way
  const int64_t kv_heads = x.size(0), share = x.size(1) / n;
  return x.view({kv_heads, share, n, x.size(2)}).permute({2, 0, 1, 3}).reshape({n, -1, x.size(2)});
}

// Which keys a query does not see [share * n, keys].
at::Tensor unseen(int64_t n, int64_t keys, int64_t first, int64_t share, at::Device device) {
  const at::TensorOptions options = at::TensorOptions(at::kLong).device(device);
  const at::Tensor seen = at::arange(n, options).unsqueeze(1) + first;
  return (at::arange(keys, options).unsqueeze(0) >= seen).repeat({share, 1});
}

at::Tensor scores(const at::Tensor& q, const at::Tensor& k, int64_t first, int64_t n,
                  double scale) {
  const at::Tensor all = at::bmm(q, k.transpose(1, 2)) * scale;
  return all.masked_fill(unseen(n, k.size(1), first, q.size(1) / n, q.device()),
                         -std::numeric_limits<double>::infinity());
}

constexpr int64_t kGolden = int64_t(0x9e3779b97f4a7c15);

// worker/kernels/keyed_hash.h on int64, which wraps round as uint64 does.
at::Tensor scramble(at::Tensor z) {
  const auto shifted = [&](int64_t by) {  // zeros come in from the left
    return z.bitwise_right_shift(by).bitwise_and((int64_t{1} << (64 - by)) - 1);
  };
  z = z.bitwise_xor(shifted(30)) * int64_t(0xbf58476d1ce4e5b9);
  z = z.bitwise_xor(shifted(27)) * int64_t(0x94d049bb133111eb);
  return z.bitwise_xor(shifted(31));
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon,
                    at::Tensor* inverse) {
  const at::Tensor wide = x.to(wide_of(x));
  const at::Tensor scale = (wide.square().mean(-1, true) + epsilon).rsqrt();
  if (inverse) *inverse = scale.squeeze(1);
  return (wide * scale).to(x.scalar_type()) * weight;
}

void rms_norm_gradient(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverse,
                       const at::Tensor& d_out, const at::Tensor& d_x) {
  const at::Tensor scale = inverse.unsqueeze(1), unit = x.to(wide_of(x)) * scale;
  const at::Tensor d_unit = d_out * weight.to(wide_of(x));
  const at::Tensor along = (d_unit * unit).mean(-1, true);
  d_x.add_((d_unit - unit * along) * scale);
}

void rotate(const at::Tensor& x, const Angles& by, int64_t head_dim) {
  const at::Tensor all = x.view({x.size(0), -1, head_dim}).to(wide_of(x));
  const at::Tensor cos = by.cos.unsqueeze(1), sin = by.sin.unsqueeze(1);
  const std::vector<at::Tensor> half = all.chunk(2, -1);
  x.copy_(at::cat({half[0] * cos - half[1] * sin, half[1] * cos + half[0] * sin}, -1).view_as(x));
}

void rotate_gradient(const at::Tensor& d, const Angles& by, int64_t head_dim) {
  rotate(d, {by.cos, -by.sin}, head_dim);
}

at::Tensor gate_product(const at::Tensor& gate, const at::Tensor& up) {
  const at::Tensor wide = gate.to(wide_of(gate));
  return (wide * wide.sigmoid()).to(gate.scalar_type()) * up;
}

void gate_product_gradient(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& d_out,
                           at::Tensor* d_gate, at::Tensor* d_up) {
  const at::Tensor g = gate.to(wide_of(gate)), s = g.sigmoid();
  *d_up = d_out * (g * s).to(gate.scalar_type());
  *d_gate = d_out * up * (s * (1 + g * (1 - s)));
}

at::Tensor add_keyed(const at::Tensor& x, const at::Tensor& change, const at::Tensor& keys) {
  if (x.scalar_type() != at::kBFloat16) return x + change;
  const at::Tensor sum = x.to(at::kFloat) + change;
  const at::TensorOptions whole = at::TensorOptions(at::kLong).device(x.device());
  const at::Tensor column = at::arange(x.size(1), whole), part = column.bitwise_right_shift(2);
  const at::Tensor of_row = scramble(keys.to(x.device()) + kGolden).unsqueeze(1);
  const at::Tensor bits = scramble(of_row + (part + 1) * kGolden);
  const at::Tensor chance =
      bits.bitwise_right_shift(column.bitwise_and(3) * 16).bitwise_and(0xffff).to(at::kInt);
  const at::Tensor up = (sum.view(at::kInt) + chance).bitwise_and(-0x10000).view(at::kFloat);
  return at::where(sum.isfinite(), up, sum).to(at::kBFloat16);
}

at::Tensor scale_rows(const at::Tensor& x, const at::Tensor& d, const at::Tensor& entry_of,
                      at::ScalarType type) {
  if (!entry_of.defined()) return (x * d).to(type);
  return (x * d.index_select(0, entry_of.to(at::kLong))).to(type);
}

void add_products(const at::Tensor& a, const at::Tensor& b, int64_t from, int64_t to,
                  double* sums) {
  const at::Tensor sum =
      (a.narrow(0, from, to - from) * b.narrow(0, from, to - from)).sum(0, false, at::kDouble);
  const at::Tensor host = sum.cpu();
  for (int64_t i = 0; i < host.numel(); ++i) sums[i] += host.data_ptr<double>()[i];
}

Attended attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t first,
                double scale) {
  const int64_t n = q.size(0), kv_heads = k.size(1);
  const at::Tensor keys = k.transpose(0, 1).to(wide_of(k)),
                   values = v.transpose(0, 1).to(wide_of(v));
  const at::Tensor s = scores(by_key_head(q, kv_heads), keys, first, n, scale);
  const at::Tensor log_sum = s.logsumexp(-1, true);
  const at::Tensor out = at::bmm((s - log_sum).exp(), values);
  return {by_query(out, n).to(q.scalar_type()), by_query(log_sum, n).squeeze(-1)};
}

AttendedGradient attend_gradient(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const Attended& seen, const at::Tensor& d_out, int64_t first,
                                 double scale) {
  const int64_t n = q.size(0), kv_heads = k.size(1);
  const at::Tensor keys = k.transpose(0, 1).to(wide_of(k)),
                   values = v.transpose(0, 1).to(wide_of(v));
  const at::Tensor queries = by_key_head(q, kv_heads), d = by_key_head(d_out, kv_heads);
  const at::Tensor log_sum = by_key_head(seen.log_sum.unsqueeze(-1), kv_heads);
  const at::Tensor p = (scores(queries, keys, first, n, scale) - log_sum).exp();
  const at::Tensor along = (d * by_key_head(seen.out, kv_heads)).sum(-1, true);
  const at::Tensor d_s = p * (at::bmm(d, values.transpose(1, 2)) - along) * scale;
  return {by_query(at::bmm(d_s, keys), n), at::bmm(d_s.transpose(1, 2), queries).transpose(0, 1),
          at::bmm(p.transpose(1, 2), d).transpose(0, 1)};
}

at::Tensor attend_each(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const at::Tensor& count, double scale) {
  const int64_t rows = q.size(0), kv_heads = k.size(2), share = q.size(1) / kv_heads;
  const at::Tensor queries = q.to(wide_of(q)).view({rows, kv_heads, share, q.size(2)});
  const at::Tensor keys = k.permute({0, 2, 3, 1}).to(wide_of(k));    // [rows, kv, d, most]
  const at::Tensor values = v.permute({0, 2, 1, 3}).to(wide_of(v));  // [rows, kv, most, d]
  const at::Tensor hidden = at::arange(k.size(1), count.options()) >= count.unsqueeze(1);
  const at::Tensor s =
      (at::matmul(queries, keys) * scale)
          .masked_fill(hidden.view({rows, 1, 1, -1}), -std::numeric_limits<double>::infinity());
  return at::matmul(at::softmax(s, -1), values).view_as(q).to(q.scalar_type());
}

}  // namespace svfleet::gpu
