#include "worker/model/decoder.h"

#include <ATen/ATen.h>

#include <limits>
#include <span>

#include "comm/error.h"
#include "comm/stage.h"
#include "svd/apply.h"
#include "worker/test_fault.h"

namespace svfleet {
namespace {

struct Rotary {
  at::Tensor cos, sin;  // [tokens, 1, head_dim / 2], float32 (float64 for a float64 model)
};

Rotary rotary(const Weights& weights, std::span<const int64_t> positions) {
  const std::vector<double>& frequencies = weights.rope_frequencies();
  at::Tensor angles =
      at::empty({int64_t(positions.size()), 1, int64_t(frequencies.size())}, at::kDouble);
  double* a = angles.data_ptr<double>();
  for (int64_t position : positions)
    for (const double frequency : frequencies) *a++ = double(position) * frequency;
  // On the host, so that the angles' bits do not depend on the device.
  return {angles.cos().to(weights.wide_type()).to(weights.device()),
          angles.sin().to(weights.wide_type()).to(weights.device())};
}

// x: [tokens, heads, head_dim]. Halves are rotated against each other (Hugging Face's layout).
at::Tensor rotate(const at::Tensor& x, const Rotary& by) {
  at::Tensor wide = x.to(by.cos.scalar_type());
  std::vector<at::Tensor> half = wide.chunk(2, -1);
  return at::cat({half[0] * by.cos - half[1] * by.sin, half[1] * by.cos + half[0] * by.sin}, -1)
      .to(x.scalar_type());
}

at::Tensor norm(const Weights& weights, const at::Tensor& x, const at::Tensor& weight) {
  at::Tensor w = x.to(weights.wide_type());
  at::Tensor scale = (w.square().mean(-1, true) + weights.architecture().rms_epsilon).rsqrt();
  return (w * scale).to(weights.type()) * weight;
}

// q: [queries, heads, d]; k, v: [keys, kv_heads, d]; the last `queries` keys are the queries' own.
// Query heads that share a key head are laid side by side as more queries: no key is copied.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t queries = q.size(0), keys = k.size(0), kv_heads = k.size(1), d = q.size(2);
  const int64_t share = q.size(1) / kv_heads;
  at::Tensor qs = q.view({queries, kv_heads, share, d})
                      .permute({1, 2, 0, 3})
                      .reshape({1, kv_heads, share * queries, d});
  at::Tensor mask =
      at::full({queries, keys}, -std::numeric_limits<double>::infinity(), q.options());
  mask = mask.triu(keys - queries + 1).repeat({share, 1});
  at::Tensor out = at::scaled_dot_product_attention(qs, k.transpose(0, 1).unsqueeze(0),
                                                    v.transpose(0, 1).unsqueeze(0), mask);
  return out.view({kv_heads, share, queries, d}).permute({2, 0, 1, 3}).reshape({queries, -1});
}

at::Tensor tree_attention(const std::vector<Segment>& segments, const at::Tensor& q,
                          const at::Tensor& k, const at::Tensor& v) {
  std::vector<at::Tensor> out;
  for (const Segment& segment : segments) {
    std::vector<at::Tensor> ks, vs;  // from the root on
    for (const Segment* s = &segment; s; s = s->parent < 0 ? nullptr : &segments[s->parent]) {
      ks.insert(ks.begin(), k.narrow(0, s->start, s->length));
      vs.insert(vs.begin(), v.narrow(0, s->start, s->length));
    }
    out.push_back(
        causal_attention(q.narrow(0, segment.start, segment.length), at::cat(ks), at::cat(vs)));
  }
  return at::cat(out);
}

// y = W x + bias of a linear with the hooks of target t round it (-1: with none).
at::Tensor product(const Linear& linear, const Adapter& adapter, int t, const at::Tensor& x,
                   const Rows& rows) {
  if (t < 0) return at::linear(x, linear.weight, linear.bias);
  if (t == 0) test_fault();
  const at::Tensor& weight = adapter.weight(t, linear);
  // No hook: what differs is not what goes into the product or comes out of it but its derivative,
  // and that reads both W' and W.
  if (adapter.kind() == Apply::kClosedForm) {
    const Adapter::Scaling s = adapter.scaling(t, rows);
    return merged_linear_closed_form(s.form, x, linear.weight, weight, linear.bias, s.q, s.d);
  }
  const at::Tensor change = adapter.input_change(t, x, rows);
  const at::Tensor changed = change.defined() ? x + change : x;
  if (!adapter.changes_output(t)) return at::linear(changed, weight, linear.bias);
  at::Tensor y = at::linear(changed, weight);
  y = y + adapter.output_change(t, changed, y, rows);
  return linear.bias.defined() ? y + linear.bias : y;
}

// attend(layer, q, k, v) -> [tokens, heads * head_dim].
template <class Attend>
at::Tensor run_layers(const Weights& weights, const Adapter& adapter, std::span<const int> tokens,
                      std::span<const int64_t> positions, const Rows& rows, Attend attend) {
  const Architecture& arch = weights.architecture();
  const int64_t count = int64_t(tokens.size());
  for (int64_t position : positions)
    if (arch.sliding_window && position >= arch.sliding_window)
      throw user_error("a sequence of more than ", arch.sliding_window,
                       " tokens needs this model's sliding window, which is not supported; shorten "
                       "the prompts or task.max_new_tokens");
  adapter.check(rows);
  const auto counter = stage_counter();  // the backward pass may run in another thread
  const Rotary rope = rotary(weights, positions);
  at::Tensor h = weights.embed(tokens);  // [T, hidden]
  for (int i = 0; i < arch.layers; ++i) {
    enter(Stage::kLayer, double(count));
    const DecoderLayer& layer = weights.layer(i);
    auto linear = [&](int j, const at::Tensor& x) {
      return product(layer.linears[j], adapter, adapter.target(i, j, rows), x, rows);
    };
    at::Tensor x = norm(weights, h, layer.input_norm);
    at::Tensor q = rotate(linear(0, x).view({count, arch.heads, arch.head_dim}), rope);
    at::Tensor k = rotate(linear(1, x).view({count, arch.kv_heads, arch.head_dim}), rope);
    at::Tensor v = linear(2, x).view({count, arch.kv_heads, arch.head_dim});
    h = h + linear(3, attend(i, q, k, v));
    x = norm(weights, h, layer.post_norm);
    h = h + linear(6, at::silu(linear(4, x)) * linear(5, x));
    if (counter && h.requires_grad())
      h.register_hook([counter, count](const at::Tensor&) {
        counter->enter(stage_class(Stage::kBackward, double(count)));
      });
  }
  return norm(weights, h, weights.final_norm());
}

}  // namespace

at::Tensor forward(const Weights& weights, const Adapter& adapter, const Batch& batch,
                   std::vector<LayerKv>* cache) {
  const std::vector<Segment>& segments = batch.segments;
  std::vector<int64_t> positions(batch.tokens.size());
  std::vector<Rows::Run> runs;
  int64_t end = 0;
  for (const Segment& segment : segments) {
    SVFLEET_CHECK(segment.start == end, segment.start, " after ", end);
    // What a prefix leaves in the cache is its expert's.
    SVFLEET_CHECK(segment.parent < 0 || segments[segment.parent].entry == segment.entry, "entry ",
                  segment.entry, " below a prefix of another");
    for (int64_t i = 0; i < segment.length; ++i)
      positions[segment.start + i] = segment.position + i;
    runs.push_back({segment.length, segment.entry});
    end += segment.length;
  }
  if (cache) cache->resize(size_t(weights.architecture().layers));
  return run_layers(weights, adapter, batch.tokens, positions, Rows(runs, weights.device()),
                    [&](int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
                      if (cache) (*cache)[layer] = {k, v};
                      return tree_attention(segments, q, k, v);
                    });
}

at::Tensor decode(const Weights& weights, const Adapter& adapter, const DecodeBatch& batch,
                  DecodeCache& cache) {
  const Architecture& arch = weights.architecture();
  const int64_t rows = int64_t(batch.tokens.size()), column = cache.filled++;
  const int64_t share = arch.heads / arch.kv_heads;
  std::vector<Rows::Run> runs;
  for (const int entry : batch.entries) runs.push_back({1, entry});
  if (runs.empty()) runs.push_back({rows, kOnlyExpert});
  at::Tensor mask = cache.mask.narrow(1, 0, cache.filled)
                        .view({rows, 1, 1, cache.filled})
                        .expand({rows, 1, share, cache.filled});
  return run_layers(weights, adapter, batch.tokens, batch.positions, Rows(runs, weights.device()),
                    [&](int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
                      cache.k[layer].select(2, column).copy_(k);
                      cache.v[layer].select(2, column).copy_(v);
                      return at::scaled_dot_product_attention(
                                 q.view({rows, arch.kv_heads, share, arch.head_dim}),
                                 cache.k[layer].narrow(2, 0, cache.filled),
                                 cache.v[layer].narrow(2, 0, cache.filled), mask)
                          .reshape({rows, arch.heads * arch.head_dim});
                    });
}

}  // namespace svfleet
