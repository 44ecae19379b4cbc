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

// No kernel of a GPU has windows.
void check_window(const Weights& weights, const Pass& pass) {
  if (!weights.device().is_cuda()) return;
  int64_t window = 0;  // a folder may name one that no layer has
  for (const LayerTraits& layer : weights.architecture().layer_traits)
    window = std::max(window, layer.window);
  if (!window) return;
  for (const int64_t position : pass.positions)
    if (position >= window)
      throw user_error("a sequence of more than ", window,
                       " tokens needs this model's sliding window, which no GPU kernel here "
                       "computes yet; set model.device: cpu, or shorten the prompts or "
                       "task.max_new_tokens");
}

// One pass's view of the model: what every layer needs besides its weights.
struct Through {
  const Weights& weights;
  const Adapter& adapter;
  const Pass& pass;
  const Rows rows;
  const Angles turned, locally_turned;
  const Architecture& arch = weights.architecture();

  Through(const Weights& w, const Adapter& a, const Pass& p)
      : weights(w),
        adapter(a),
        pass(p),
        rows(p.entries, p.positions, w.device()),
        turned(angles(p.positions, w.rope_frequencies(), w.architecture().rope.magnitude,
                      w.wide_type(), w.device())),
        locally_turned(
            w.rope_frequencies(true).empty()
                ? Angles()
                : angles(p.positions, w.rope_frequencies(true), 1, w.wide_type(), w.device())) {
    check_window(weights, pass);
    adapter.check(rows);
  }

  const Linear& linear(int layer, int j) const { return weights.layer(layer).linears[j]; }
  at::Tensor product(int layer, int j, const at::Tensor& x) const {
    return adapter.product(adapter.target(layer, j, rows), linear(layer, j), x, rows);
  }

  // x normed by `weight`, or x where the family has no norm there. `kept`: what the gradient needs.
  // Each stretch of the weight's length is normed on its own: the row, or its heads.
  at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, Tape::Norm* kept = nullptr) const {
    if (!weight.defined()) return x;
    const at::Tensor stretches = x.view({-1, weight.size(0)});
    return rms_norm(stretches, weight, arch.rms_epsilon, kept ? &kept->inverse : nullptr)
        .view_as(x);
  }
  // The same of the input of which `kept` is left.
  at::Tensor norm_again(const Tape::Norm& kept, const at::Tensor& weight) const {
    return norm(kept.x, weight);
  }
  // d_x += the gradient at the norm's input of what has the gradient d_out behind it.
  void add_norm_gradient(const Tape::Norm& kept, const at::Tensor& weight, const at::Tensor& d_out,
                         const at::Tensor& d_x) const {
    if (!weight.defined()) {
      d_x.add_(d_out);
      return;
    }
    const int64_t stretch = weight.size(0);
    rms_norm_gradient(kept.x.view({-1, stretch}), weight, kept.inverse, d_out.view({-1, stretch}),
                      d_x.view({-1, stretch}));
  }

  const LayerTraits& traits(int layer) const { return arch.layer_traits[size_t(layer)]; }
  void turn(int layer, const at::Tensor& x) const {
    if (traits(layer).rotary) rotate(x, angles_of(layer), arch.head_dim);
  }
  void turn_gradient(int layer, const at::Tensor& d) const {
    if (traits(layer).rotary) rotate_gradient(d, angles_of(layer), arch.head_dim);
  }

 private:
  const Angles& angles_of(int layer) const {
    return traits(layer).local_angles ? locally_turned : turned;
  }
};

// Queries or keys, linear j of x: normed where the family has it so, and turned.
at::Tensor placed(const Through& in, int i, int j, const at::Tensor& x, const at::Tensor& weight,
                  Tape::Norm* kept) {
  at::Tensor y = in.product(i, j, x);
  if (weight.defined()) {
    if (kept) kept->x = y;
    y = in.norm(y, weight, kept);
  }
  in.turn(i, y);
  return y;
}

// What attention or the MLP adds to h: y, normed where the family has it so, and scaled.
void add_behind(const Through& in, const at::Tensor& h, const at::Tensor& y,
                const at::Tensor& weight, Tape::Norm* kept) {
  if (kept && weight.defined()) kept->x = y;
  add_to(h, in.norm(y, weight, kept), in.arch.residual_scale);
}

// h is changed in place.
void forward_layer(const Through& in, int i, const at::Tensor& h, PagePool& pool,
                   Tape::Layer* kept) {
  const DecoderLayer& layer = in.weights.layer(i);
  Tape::Layer now;
  const auto keep = [&](Tape::Norm& norm) { return kept ? &norm : nullptr; };
  if (kept) now.attention.x = h.clone();
  at::Tensor x = in.norm(h, layer.attention_norm, keep(now.attention));
  now.q = placed(in, i, 0, x, layer.q_norm, keep(now.q_norm));
  const at::Tensor k = placed(in, i, 1, x, layer.k_norm, keep(now.k_norm));
  pool.store(i, in.pass, k, in.product(i, 2, x));
  now.attended = pool.attend(i, in.pass, now.q, kept ? &now.log_sum : nullptr);
  add_behind(in, h, in.product(i, 3, now.attended), layer.attention_out_norm,
             keep(now.attention_out));
  if (kept) now.mlp.x = h.clone();
  x = in.norm(h, layer.mlp_norm, keep(now.mlp));
  now.gate = in.product(i, 4, x);
  now.up = in.product(i, 5, x);
  add_behind(in, h, in.product(i, 6, gate_product(now.gate, now.up, in.arch.activation)),
             layer.mlp_out_norm, keep(now.mlp_out));
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

// The gradient at what attention or the MLP gave, of d_h behind it.
at::Tensor behind_gradient(const Through& in, const at::Tensor& d_h, const at::Tensor& weight,
                           const Tape::Norm& kept) {
  const at::Tensor d = in.arch.residual_scale == 1 ? d_h : d_h * in.arch.residual_scale;
  if (!weight.defined()) return d;
  const at::Tensor d_y = at::zeros_like(d);
  in.add_norm_gradient(kept, weight, d, d_y);
  return d_y;
}

// The gradient at linear j's output of d at the queries or keys that it became.
at::Tensor placed_gradient(const Through& in, int i, const at::Tensor& d, const at::Tensor& weight,
                           const Tape::Norm& kept) {
  in.turn_gradient(i, d);
  if (!weight.defined()) return d;
  const at::Tensor d_y = at::zeros_like(d);
  in.add_norm_gradient(kept, weight, d, d_y);
  return d_y;
}

// d_h: at the layer's output, and then at its input unless it is the last that is looked at.
void backward_layer(const Through& in, int i, const PagePool& pool, const Tape::Layer& kept,
                    const at::Tensor& d_h, Sums& sums, bool lowest) {
  const DecoderLayer& layer = in.weights.layer(i);
  const at::ScalarType type = in.weights.type();
  const auto back = [&](int j, const at::Tensor& x, const at::Tensor& d_y, bool wanted = true) {
    const int target = in.adapter.target(i, j, in.rows);
    if (target < 0 && !wanted) return at::Tensor();
    const CoreBackward of =
        in.adapter.backward(target, in.linear(i, j), x, rounded(d_y, type), in.rows, wanted);
    sums.add(target, of);
    return of.d_x;
  };
  const Activation act = in.arch.activation;
  at::Tensor d_gate, d_up;
  gate_product_gradient(kept.gate, kept.up,
                        back(6, gate_product(kept.gate, kept.up, act),
                             behind_gradient(in, d_h, layer.mlp_out_norm, kept.mlp_out)),
                        &d_gate, &d_up, act);
  at::Tensor x = in.norm_again(kept.mlp, layer.mlp_norm);
  at::Tensor d_x = back(4, x, d_gate);
  d_x.add_(back(5, x, d_up));
  in.add_norm_gradient(kept.mlp, layer.mlp_norm, d_x, d_h);
  const at::Tensor d_attended =
      rounded(back(3, kept.attended,
                   behind_gradient(in, d_h, layer.attention_out_norm, kept.attention_out)),
              type);
  const PagePool::Gradient d =
      pool.attend_gradient(i, in.pass, kept.q, kept.attended, kept.log_sum, d_attended);
  const at::Tensor d_q = placed_gradient(in, i, d.d_q, layer.q_norm, kept.q_norm),
                   d_k_out = placed_gradient(in, i, d.d_k, layer.k_norm, kept.k_norm);
  x = in.norm_again(kept.attention, layer.attention_norm);
  d_x = back(0, x, d_q, !lowest);
  const at::Tensor d_k = back(1, x, d_k_out, !lowest), d_v = back(2, x, d.d_v, !lowest);
  if (lowest) return;
  d_x.add_(d_k).add_(d_v);
  in.add_norm_gradient(kept.attention, layer.attention_norm, d_x, d_h);
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
    if (kept && tape->again) kept->attention.x = h.clone();
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
    if (tape.again) forward_layer(in, i, std::exchange(kept.attention.x, {}), pool, &kept);
    backward_layer(in, i, pool, kept, d_h, sums, i == tape.from);
  }
  return sums.take();
}

}  // namespace svfleet
