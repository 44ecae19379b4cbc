// A decoder in float64 as one writes it down from the paper: full attention matrices, every
// sequence alone, no cache, libtorch's autograd. It shares nothing with the engine but the weights'
// files.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <vector>

#include "worker/model/basis.h"
#include "worker/model/rope.h"

namespace svfleet {

class PlainDecoder {
 public:
  explicit PlainDecoder(const Weights& weights) : weights_(weights) {
    for (int i = 0; i < weights.architecture().layers; ++i)
      for (const Linear& linear : weights.layer(i).linears) {
        matrices_.push_back(linear.weight.plain().to(at::kDouble));
        biases_.push_back(linear.bias.defined() ? linear.bias.to(at::kDouble) : at::Tensor());
      }
  }
  // W' = W + W Q diag(d) Q^T or W + Q diag(d) Q^T W for each target, d = z - 1 [r] float64: leaves
  // of the graph, where they require gradients.
  void adapt(const Basis& basis, const std::vector<at::Tensor>& d) {
    for (size_t t = 0; t < d.size(); ++t) {
      at::Tensor& w = matrix(basis.targets()[t]);
      const at::Tensor q = basis.q(t).plain().to(at::kDouble);
      const at::Tensor c = (q * d[t]).mm(q.t());
      w = basis.targets()[t].form == Form::kRight ? w + w.mm(c) : w + c.mm(w);
    }
  }
  at::Tensor& matrix(const Target& target) { return matrices_[place(target)]; }
  at::Tensor& bias(const Target& target) { return biases_[place(target)]; }  // may be undefined

  at::Tensor logits(const std::vector<int>& tokens) const {  // [T, vocabulary]
    const Architecture& arch = weights_.architecture();
    const int64_t n = int64_t(tokens.size()), d = arch.head_dim;
    at::Tensor h = weights_.embed(tokens).to(at::kDouble);
    const std::vector<double> frequencies = rope_frequencies(arch);
    at::Tensor angle = at::empty({n, 1, d / 2}, at::kDouble);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < d / 2; ++j) angle[i][0][j] = double(i) * frequencies[size_t(j)];
    const auto turned = [&](const at::Tensor& x, int64_t heads) {
      const at::Tensor v = x.view({n, heads, d});
      const at::Tensor a = v.narrow(2, 0, d / 2), b = v.narrow(2, d / 2, d / 2);
      return at::cat({a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()}, 2);
    };
    for (int i = 0; i < arch.layers; ++i) {
      const DecoderLayer& layer = weights_.layer(i);
      const auto linear = [&](int j, const at::Tensor& x) {
        const at::Tensor y = x.mm(matrices_[size_t(i) * 7 + size_t(j)].t());
        const at::Tensor& bias = biases_[size_t(i) * 7 + size_t(j)];
        return bias.defined() ? y + bias : y;
      };
      const at::Tensor x = norm(h, layer.input_norm);
      const at::Tensor q = turned(linear(0, x), arch.heads),
                       k = turned(linear(1, x), arch.kv_heads),
                       v = linear(2, x).view({n, arch.kv_heads, d});
      std::vector<at::Tensor> heads;
      for (int64_t head = 0; head < arch.heads; ++head) {
        const int64_t shared = head / (arch.heads / arch.kv_heads);
        at::Tensor s = q.select(1, head).mm(k.select(1, shared).t()) / std::sqrt(double(d));
        s = s + at::full({n, n}, -std::numeric_limits<double>::infinity(), at::kDouble).triu(1);
        heads.push_back(at::softmax(s, -1).mm(v.select(1, shared)));
      }
      h = h + linear(3, at::cat(heads, 1));
      const at::Tensor x2 = norm(h, layer.post_norm), gate = linear(4, x2);
      h = h + linear(6, gate * at::sigmoid(gate) * linear(5, x2));
    }
    return norm(h, weights_.final_norm()).mm(weights_.head().matrix().plain().to(at::kDouble).t());
  }

 private:
  at::Tensor norm(const at::Tensor& x, const at::Tensor& weight) const {
    const double epsilon = weights_.architecture().rms_epsilon;
    return x / (x.square().mean(1, true) + epsilon).sqrt() * weight.to(at::kDouble);
  }

  static size_t place(const Target& target) {
    const auto& kinds = linear_kinds();
    const auto kind = std::find(kinds.begin(), kinds.end(), target.kind) - kinds.begin();
    return size_t(target.layer) * 7 + size_t(kind);
  }

  const Weights& weights_;
  std::vector<at::Tensor> matrices_, biases_;  // by layer, then kind
};

// z - 1 of each target as float64 tensors.
inline std::vector<at::Tensor> changes(const Basis& basis, const std::vector<float>& z) {
  std::vector<at::Tensor> d;
  for (const Target& target : basis.targets()) {
    d.push_back(at::empty({target.length()}, at::kDouble));
    for (int64_t i = 0; i < target.length(); ++i)
      d.back().data_ptr<double>()[i] = double(z[size_t(target.offset + i)] - 1.0f);
  }
  return d;
}

}  // namespace svfleet
