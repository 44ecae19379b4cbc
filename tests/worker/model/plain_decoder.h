// A decoder in float64 as one writes it down from the paper: full attention matrices, every
// sequence alone, no cache, libtorch's autograd. It shares nothing with the engine but the weights'
// files and the frequencies of rotary positions, which the tests of families compare with
// transformers' numbers.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "worker/model/basis.h"
#include "worker/model/model_tensors.h"
#include "worker/model/read_weight.h"
#include "worker/model/rope.h"

namespace svfleet {

class PlainDecoder {
 public:
  explicit PlainDecoder(const Weights& weights) : PlainDecoder(weights, weights.architecture()) {}
  // With other flags than the weights' own, as a control; they must leave the shapes as they are.
  PlainDecoder(const Weights& weights, const Architecture& arch) : weights_(weights), arch_(arch) {
    for (int i = 0; i < arch_.layers; ++i)
      for (size_t j = 0; j < 7; ++j) {
        const Linear& linear = weights.layer(i).linears[j];
        matrices_.push_back(linear.weight.plain().to(at::kDouble));
        const bool biased = linear.bias.defined() && has_bias(arch_, j);
        biases_.push_back(biased ? linear.bias.to(at::kDouble) : at::Tensor());
      }
    const EmbeddingNames names = embedding_names(weights.files(), weights.architecture());
    embedding_ = stored(names.embedding);
    const bool untied = !arch_.tied_embeddings && weights.architecture().tied_embeddings;
    head_ = untied ? fresh_head() : stored(names.head);
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
    const int64_t n = int64_t(tokens.size()), d = arch_.head_dim;
    std::vector<int64_t> ids(tokens.begin(), tokens.end());
    at::Tensor h = embedding_.index_select(0, at::tensor(ids, at::kLong)) * arch_.embedding_scale;
    for (int i = 0; i < arch_.layers; ++i) {
      const std::string layer = "model.layers." + std::to_string(i) + ".";
      const LayerTraits& traits = arch_.layer_traits[size_t(i)];
      const auto linear = [&](int j, const at::Tensor& x) {
        const at::Tensor y = x.mm(matrices_[size_t(i) * 7 + size_t(j)].t());
        const at::Tensor& bias = biases_[size_t(i) * 7 + size_t(j)];
        return bias.defined() ? y + bias : y;
      };
      const auto placed = [&](int j, const at::Tensor& x, int64_t heads, const char* norm_name) {
        at::Tensor y = linear(j, x);
        if (arch_.qk_norm == QkNorm::kWhole) y = norm(y, layer + norm_name);
        y = y.view({n, heads, d});
        if (arch_.qk_norm == QkNorm::kPerHead) y = norm(y, layer + norm_name);
        return traits.rotary ? turned(y, traits.local_angles) : y;
      };
      const bool before = arch_.norm_place != NormPlace::kBehind,
                 behind = arch_.norm_place != NormPlace::kBefore;
      const at::Tensor x = before ? norm(h, layer + "input_layernorm.weight") : h;
      const at::Tensor q = placed(0, x, arch_.heads, "self_attn.q_norm.weight"),
                       k = placed(1, x, arch_.kv_heads, "self_attn.k_norm.weight"),
                       v = linear(2, x).view({n, arch_.kv_heads, d});
      std::vector<at::Tensor> heads;
      for (int64_t head = 0; head < arch_.heads; ++head) {
        const int64_t shared = head / (arch_.heads / arch_.kv_heads);
        const at::Tensor s =
            capped(q.select(1, head).mm(k.select(1, shared).t()) * arch_.attention_scale,
                   arch_.attention_cap);
        heads.push_back(at::softmax(s + mask(n, traits.window), -1).mm(v.select(1, shared)));
      }
      const auto added = [&](const at::Tensor& y, const char* norm_name) {
        return (behind ? norm(y, layer + norm_name) : y) * arch_.residual_scale;
      };
      h = h + added(linear(3, at::cat(heads, 1)), "post_attention_layernorm.weight");
      const at::Tensor x2 = !before ? h
                                    : norm(h, layer + (behind ? "pre_feedforward_layernorm.weight"
                                                              : "post_attention_layernorm.weight"));
      h = h + added(linear(6, activated(linear(4, x2)) * linear(5, x2)),
                    "post_feedforward_layernorm.weight");
    }
    const at::Tensor scores = norm(h, "model.norm.weight").mm(head_.t()) / arch_.logit_divisor;
    return capped(scores, arch_.logit_cap);
  }

 private:
  // As a control: a head that the folder knows nothing of, as a new model has it.
  at::Tensor fresh_head() const {
    at::manual_seed(1);
    return at::randn(embedding_.sizes(), at::kDouble) * embedding_.std();
  }
  at::Tensor stored(const std::string& name) const {
    return read_weight(weights_.files(), name, weights_.files().at(name).shape, at::kDouble);
  }
  at::Tensor norm(const at::Tensor& x, const std::string& name) const {
    // As a control: a norm that the folder knows nothing of.
    if (!weights_.files().has(name)) return norm_by(x, at::ones({x.size(-1)}, at::kDouble));
    at::Tensor weight = stored(name);
    if (arch_.norm_adds_one) weight = weight + 1;
    return norm_by(x, weight);
  }
  at::Tensor norm_by(const at::Tensor& x, const at::Tensor& weight) const {
    return x / (x.square().mean(-1, true) + arch_.rms_epsilon).sqrt() * weight;
  }
  at::Tensor activated(const at::Tensor& g) const {
    return arch_.activation == Activation::kSilu ? g * at::sigmoid(g) : at::gelu(g, "tanh");
  }
  static at::Tensor capped(const at::Tensor& x, double cap) {
    return cap > 0 ? cap * at::tanh(x / cap) : x;
  }
  // Keys behind the query, and those more than a window before it.
  static at::Tensor mask(int64_t n, int64_t window) {
    const at::Tensor never =
        at::full({n, n}, -std::numeric_limits<double>::infinity(), at::kDouble);
    const at::Tensor behind = never.triu(1);
    return window > 0 ? behind + never.tril(-window) : behind;
  }
  // x [T, heads, head_dim]: the first rotary_dim of each head.
  at::Tensor turned(const at::Tensor& x, bool locally) const {
    const std::vector<double> frequencies =
        locally ? local_rope_frequencies(arch_) : rope_frequencies(arch_);
    const int64_t n = x.size(0), half = int64_t(frequencies.size());
    at::Tensor angle = at::empty({n, 1, half}, at::kDouble);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < half; ++j)
        angle.data_ptr<double>()[i * half + j] = double(i) * frequencies[size_t(j)];
    const double magnitude = locally ? 1 : arch_.rope.magnitude;
    const at::Tensor cos = angle.cos() * magnitude, sin = angle.sin() * magnitude;
    const at::Tensor a = x.narrow(2, 0, half), b = x.narrow(2, half, half);
    return at::cat(
        {a * cos - b * sin, b * cos + a * sin, x.narrow(2, 2 * half, x.size(2) - 2 * half)}, 2);
  }

  static size_t place(const Target& target) {
    const auto& kinds = linear_kinds();
    const auto kind = std::find(kinds.begin(), kinds.end(), target.kind) - kinds.begin();
    return size_t(target.layer) * 7 + size_t(kind);
  }

  const Weights& weights_;
  const Architecture arch_;
  at::Tensor embedding_, head_;
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
