#include "worker/model/decoder.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <utility>

#include "comm/error.h"
#include "comm/stage.h"
#include "worker/model/entry_products.h"
#ifdef SVFLEET_HAVE_CUDA
#include "worker/model/gpu_kernels.h"
#endif
#include "worker/model/operations.h"
#include "worker/model/typed.h"

namespace svfleet {
namespace {

void check_window(const Architecture& arch, const Pass& pass) {
  if (!arch.sliding_window) return;
  for (const int64_t position : pass.positions)
    if (position >= arch.sliding_window)
      throw user_error("a sequence of more than ", arch.sliding_window,
                       " tokens needs this model's sliding window, which is not supported; shorten "
                       "the prompts or task.max_new_tokens");
}

// One pass's view of the model: what every layer needs besides its weights.
struct Through {
  const Weights& weights;
  const Adapter& adapter;
  const Pass& pass;
  const Rows rows;
  const Angles turned;
  const Architecture& arch = weights.architecture();

  Through(const Weights& w, const Adapter& a, const Pass& p)
      : weights(w),
        adapter(a),
        pass(p),
        rows(p.entries, p.positions, w.device()),
        turned(angles(p.positions, w.rope_frequencies(), w.wide_type(), w.device())) {
    check_window(arch, pass);
    adapter.check(rows);
  }

  const Linear& linear(int layer, int j) const { return weights.layer(layer).linears[j]; }
  at::Tensor product(int layer, int j, const at::Tensor& x) const {
    return adapter.product(adapter.target(layer, j, rows), linear(layer, j), x, rows);
  }
};

// h is changed in place.
void forward_layer(const Through& in, int i, const at::Tensor& h, PagePool& pool,
                   Tape::Layer* kept) {
  const DecoderLayer& layer = in.weights.layer(i);
  const double epsilon = in.arch.rms_epsilon;
  Tape::Layer now;
  if (kept) now.h = h.clone();
  at::Tensor x = rms_norm(h, layer.input_norm, epsilon, kept ? &now.inverse : nullptr);
  now.q = in.product(i, 0, x);
  const at::Tensor k = in.product(i, 1, x);
  rotate(now.q, in.turned, in.arch.head_dim);
  rotate(k, in.turned, in.arch.head_dim);
  pool.store(i, in.pass, k, in.product(i, 2, x));
  now.attended = pool.attend(i, in.pass, now.q, kept ? &now.log_sum : nullptr);
  add_to(h, in.product(i, 3, now.attended));
  if (kept) now.h2 = h.clone();
  x = rms_norm(h, layer.post_norm, epsilon, kept ? &now.inverse2 : nullptr);
  now.gate = in.product(i, 4, x);
  now.up = in.product(i, 5, x);
  add_to(h, in.product(i, 6, gate_product(now.gate, now.up)));
  if (kept) *kept = std::move(now);
}

// The sums over rows that become dz.
class Sums {
 public:
  Sums(const Adapter& adapter, const std::vector<RowRange>& ranges,
       [[maybe_unused]] const at::Tensor& like)
      : core_(adapter.table()->basis().core()),
        ranges_(ranges),
        dz_(ranges.size(), std::vector<double>(size_t(core_.coefficients()), 0)) {
#ifdef SVFLEET_HAVE_CUDA
    if (!gpu::has_kernels(like)) return;
    const at::Device device = like.device();
    std::vector<int64_t> from, to;
    for (const RowRange& range : ranges) {
      from.push_back(range.from);
      to.push_back(range.to);
    }
    from_ = index_tensor(from, device);
    to_ = index_tensor(to, device);
    there_ = at::zeros({int64_t(ranges.size()), core_.coefficients()},
                       at::TensorOptions(at::kDouble).device(device));
#endif
  }

  void add(int target, const CoreBackward& of) {
    for (const RowSum& sum : of.sums) {
      const int64_t offset = core_.part(size_t(target)).offset + sum.offset;
#ifdef SVFLEET_HAVE_CUDA
      if (there_.defined() && !sum.outer) {
        gpu::kernels::add_products(sum.a, sum.b, from_, to_, there_, offset);
        continue;
      }
#endif
      for (size_t i = 0; i < ranges_.size(); ++i) add(sum, ranges_[i], dz_[i].data() + offset);
    }
  }
  std::vector<std::vector<double>> take() {
    if (there_.defined()) {
      const at::Tensor here = there_.cpu();
      for (size_t i = 0; i < dz_.size(); ++i)
        for (size_t c = 0; c < dz_[i].size(); ++c)
          dz_[i][c] += here[int64_t(i)].data_ptr<double>()[c];
    }
    return std::move(dz_);
  }

 private:
  static void add(const RowSum& sum, const RowRange& range, double* sums) {
    if (sum.outer)
      add_outer_products(sum.a, sum.b, range.from, range.to, sums);
    else
      add_products(sum.a, sum.b, range.from, range.to, sums);
  }

  const Core& core_;
  const std::vector<RowRange>& ranges_;
  std::vector<std::vector<double>> dz_;
  at::Tensor from_, to_, there_;  // on a GPU: the ranges, and their sums until they are taken
};

// d_h: at the layer's output, and then at its input unless it is the last that is looked at.
void backward_layer(const Through& in, int i, const PagePool& pool, const Tape::Layer& kept,
                    const at::Tensor& d_h, Sums& sums, bool lowest) {
  const DecoderLayer& layer = in.weights.layer(i);
  const at::ScalarType type = kept.h.scalar_type();
  const auto back = [&](int j, const at::Tensor& x, const at::Tensor& d_y, bool wanted = true) {
    const int target = in.adapter.target(i, j, in.rows);
    if (target < 0 && !wanted) return at::Tensor();
    const CoreBackward of =
        in.adapter.backward(target, in.linear(i, j), x, rounded(d_y, type), in.rows, wanted);
    sums.add(target, of);
    return of.d_x;
  };
  at::Tensor d_gate, d_up;
  gate_product_gradient(kept.gate, kept.up, back(6, gate_product(kept.gate, kept.up), d_h), &d_gate,
                        &d_up);
  at::Tensor x = rms_norm(kept.h2, layer.post_norm, in.arch.rms_epsilon);
  at::Tensor d_x = back(4, x, d_gate);
  d_x.add_(back(5, x, d_up));
  rms_norm_gradient(kept.h2, layer.post_norm, kept.inverse2, d_x, d_h);
  const at::Tensor d_attended = rounded(back(3, kept.attended, d_h), type);
  const PagePool::Gradient d =
      pool.attend_gradient(i, in.pass, kept.q, kept.attended, kept.log_sum, d_attended);
  rotate_gradient(d.d_q, in.turned, in.arch.head_dim);
  rotate_gradient(d.d_k, in.turned, in.arch.head_dim);
  x = rms_norm(kept.h, layer.input_norm, in.arch.rms_epsilon);
  d_x = back(0, x, d.d_q, !lowest);
  const at::Tensor d_k = back(1, x, d.d_k, !lowest), d_v = back(2, x, d.d_v, !lowest);
  if (lowest) return;
  d_x.add_(d_k).add_(d_v);
  rms_norm_gradient(kept.h, layer.input_norm, kept.inverse, d_x, d_h);
}

}  // namespace

at::Tensor forward(const Weights& weights, const Adapter& adapter, const Pass& pass, PagePool& pool,
                   Tape* tape) {
  c10::NoGradGuard no_grad;
  const Through in(weights, adapter, pass);
  const at::Tensor h = weights.embed(pass.tokens);  // [rows, hidden]
  if (tape) tape->layers.resize(size_t(in.arch.layers));
  for (int i = 0; i < in.arch.layers; ++i) {
    enter(Stage::kLayer, double(pass.rows()));
    Tape::Layer* kept = tape && i >= tape->from ? &tape->layers[size_t(i)] : nullptr;
    if (kept && tape->again) kept->h = h.clone();
    forward_layer(in, i, h, pool, kept && !tape->again ? kept : nullptr);
  }
  if (tape) tape->h = h;
  return rms_norm(h, weights.final_norm(), in.arch.rms_epsilon, tape ? &tape->inverse : nullptr);
}

std::vector<std::vector<double>> backward(const Weights& weights, const Adapter& adapter,
                                          const Pass& pass, PagePool& pool, Tape tape,
                                          const at::Tensor& d_hidden,
                                          const std::vector<RowRange>& ranges) {
  c10::NoGradGuard no_grad;
  const Through in(weights, adapter, pass);
  Sums sums(adapter, ranges, tape.h);
  const at::Tensor d_h = at::zeros_like(d_hidden);
  rms_norm_gradient(tape.h, weights.final_norm(), tape.inverse, d_hidden, d_h);
  for (int i = in.arch.layers; i-- > tape.from;) {
    enter(Stage::kBackward, double(pass.rows()));
    Tape::Layer kept = std::exchange(tape.layers[size_t(i)], {});
    if (tape.again) forward_layer(in, i, std::exchange(kept.h, {}), pool, &kept);
    backward_layer(in, i, pool, kept, d_h, sums, i == tape.from);
  }
  return sums.take();
}

}  // namespace svfleet
