#include "worker/model/model.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>

#include "checkpoints/hash.h"
#include "comm/error.h"
#include "comm/stage.h"
#include "svd/apply.h"
#include "worker/model/model_tensors.h"
#include "worker/model/weights.h"
#include "worker/test_fault.h"

namespace svfleet {
namespace {

// RoPE frequencies, with Llama 3.1's stretching of the long wavelengths: below low_freq_factor
// turns over the original context they are divided by `factor`, above high_freq_factor kept, and
// interpolated between.
std::vector<double> rope_frequencies(const Architecture& arch) {
  const double pi = 3.14159265358979323846;
  std::vector<double> frequencies(arch.head_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double f = 1 / std::pow(arch.rope_theta, 2.0 * double(i) / double(arch.head_dim));
    if (arch.rope.llama3) {
      const RopeScaling& s = arch.rope;
      double turns = double(s.original_max_position) * f / (2 * pi);
      double keep = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
      keep = std::min(1.0, std::max(0.0, keep));
      f = f / s.factor * (1 - keep) + f * keep;
    }
    frequencies[i] = f;
  }
  return frequencies;
}

// x: [tokens, heads, head_dim]. Halves are rotated against each other (Hugging Face's layout).
at::Tensor rotate(const at::Tensor& x, const std::pair<at::Tensor, at::Tensor>& rotary) {
  at::Tensor wide = x.to(rotary.first.scalar_type());
  std::vector<at::Tensor> half = wide.chunk(2, -1);
  const auto& [cos, sin] = rotary;
  return at::cat({half[0] * cos - half[1] * sin, half[1] * cos + half[0] * sin}, -1)
      .to(x.scalar_type());
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

}  // namespace

Model::Model(const std::string& folder, at::ScalarType type, at::Device device)
    : arch_(read_architecture(folder)),
      type_(type),
      device_(device),
      files_(std::make_unique<SafetensorsFolder>(folder)),
      inverse_frequencies_(rope_frequencies(arch_)) {
  auto read = [&](const std::string& name, std::vector<int64_t> shape) {
    at::Tensor weight = read_weight(*files_, name, shape, type_).to(device_);
    tensor_hashes_[name] = files_->tensor_hash(name);  // now, while its pages are in memory
    return weight;
  };
  check_tensors(*files_, arch_);
  const EmbeddingNames names = embedding_names(*files_, arch_);
  embedding_ = read(names.embedding, {arch_.vocabulary, arch_.hidden});
  final_norm_ = read("model.norm.weight", {arch_.hidden});
  head_ = arch_.tied_embeddings ? embedding_ : read(names.head, {arch_.vocabulary, arch_.hidden});
  const std::vector<MatrixShape> shapes = arch_.linear_shapes();
  layers_.resize(arch_.layers);
  for (int i = 0; i < arch_.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    Layer& layer = layers_[i];
    layer.input_norm = read(prefix + "input_layernorm.weight", {arch_.hidden});
    layer.post_norm = read(prefix + "post_attention_layernorm.weight", {arch_.hidden});
    for (size_t j = 0; j < shapes.size(); ++j) {
      std::string name = weight_name(i, shapes[j].kind);
      layer.linears[j].weight = read(name, {shapes[j].rows, shapes[j].cols});
      if (arch_.qkv_bias && j < 3)
        layer.linears[j].bias = read(name.substr(0, name.size() - 6) + "bias", {shapes[j].rows});
    }
  }
}

void Model::attach(std::vector<Factor> factors) {
  targets_.clear(), sigmas_.clear(), adapted_.clear(), wide_q_.clear(), q_.clear();
  const auto& kinds = linear_kinds();
  const InStage loading(Stage::kLoad);
  for (Factor& factor : factors) {
    enter(Stage::kLoad);
    const Target& target = factor.target;
    size_t kind = std::find(kinds.begin(), kinds.end(), target.kind) - kinds.begin();
    SVFLEET_CHECK(target.layer < arch_.layers && kind < kinds.size(), target.name);
    Linear& linear = layers_[target.layer].linears[kind];
    linear.target = int(targets_.size());
    adapted_.push_back(&linear);
    targets_.push_back(target);
    sigmas_.push_back(factor.sigma);
    wide_q_.push_back(factor.q.to(device_));
    q_.push_back(wide_q_.back().to(type_));
  }
  merged_z_.assign(size_t(total_length(targets_)), 1.0f);
}

int64_t Model::merge_one(size_t t, std::span<const float> z) {
  c10::NoGradGuard no_grad;
  const InStage merging(Stage::kMerge, double(targets_[t].rows) * double(targets_[t].cols) *
                                           double(targets_[t].length()));
  Linear& linear = *adapted_[t];
  at::Tensor next = at::empty_like(linear.weight);
  merge(targets_[t].form, linear.weight, wide_q_[t], expert_tensor(t, z), next);
  const at::Tensor& before = linear.merged.defined() ? linear.merged : linear.weight;
  int64_t changed = next.ne(before).sum().item<int64_t>();
  linear.merged = next;
  const Target& target = targets_[t];
  std::copy_n(z.begin() + target.offset, target.length(), merged_z_.begin() + target.offset);
  return changed;
}

void Model::unmerge() {
  for (Linear* linear : adapted_) linear->merged.reset();
  std::fill(merged_z_.begin(), merged_z_.end(), 1.0f);
}

std::string Model::weights_hash() const {
  const InStage hashing(Stage::kHash);
  Hasher hasher;
  auto add = [&](const at::Tensor& t) {
    enter(Stage::kHash);
    if (t.defined()) hasher.raw(t.cpu().data_ptr(), t.nbytes());
  };
  add(embedding_), add(final_norm_), add(head_);
  for (const Layer& layer : layers_) {
    add(layer.input_norm), add(layer.post_norm);
    for (const Linear& linear : layer.linears) add(linear.weight), add(linear.bias);
  }
  return hasher.hex();
}

std::vector<std::pair<std::string, at::Tensor>> Model::frozen() const {
  std::vector<std::pair<std::string, at::Tensor>> all;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    if (tensor.defined()) all.emplace_back("'" + name + "'", tensor);
  };
  const auto add_doubles = [&](const std::string& name, const std::vector<double>& values) {
    add(name, at::from_blob(const_cast<double*>(values.data()), {int64_t(values.size())},
                            at::TensorOptions(at::kDouble)));
  };
  add("model.embed_tokens.weight", embedding_);
  add("model.norm.weight", final_norm_);
  if (!arch_.tied_embeddings) add("lm_head.weight", head_);
  add_doubles("RoPE frequencies", inverse_frequencies_);
  const auto& kinds = linear_kinds();
  for (int i = 0; i < arch_.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    add(prefix + "input_layernorm.weight", layers_[i].input_norm);
    add(prefix + "post_attention_layernorm.weight", layers_[i].post_norm);
    for (size_t j = 0; j < kinds.size(); ++j) {
      const std::string name = weight_name(i, kinds[j]);
      add(name, layers_[i].linears[j].weight);
      add(name + " (bias)", layers_[i].linears[j].bias);
    }
  }
  for (size_t t = 0; t < targets_.size(); ++t) {
    add("Q of " + targets_[t].name, wide_q_[t]);
    if (!q_[t].is_same(wide_q_[t])) add("Q of " + targets_[t].name + " as computed with", q_[t]);
    add_doubles("sigma of " + targets_[t].name, sigmas_[t]);
  }
  return all;
}

at::Tensor Model::expert_tensor(size_t t, std::span<const float> z) const {
  SVFLEET_CHECK(int64_t(z.size()) == total_length(targets_), z.size(), " scales for ",
                total_length(targets_));
  const Target& target = targets_[t];
  at::Tensor d = at::empty({target.length()}, at::kFloat);
  for (int64_t i = 0; i < target.length(); ++i)
    d.data_ptr<float>()[i] = z[target.offset + i] - 1.0f;
  return d.to(device_, type_ == at::kDouble ? at::kDouble : at::kFloat);
}

std::vector<at::Tensor> Model::expert_tensors(std::span<const float> z, bool differentiable) const {
  std::vector<at::Tensor> d;
  for (size_t t = 0; t < targets_.size(); ++t)
    d.push_back(expert_tensor(t, z).requires_grad_(differentiable));
  return d;
}

at::Tensor Model::apply_linear(const Linear& linear, const at::Tensor& x, Apply apply,
                               const std::vector<at::Tensor>& d) const {
  if (linear.target < 0 || apply == Apply::kFrozen)
    return at::linear(x, linear.weight, linear.bias);
  const int t = linear.target;
  if (t == 0) test_fault();
  switch (apply) {
    case Apply::kMerged:
      SVFLEET_CHECK(linear.merged.defined(), targets_[t].name, " is not merged");
      return at::linear(x, linear.merged, linear.bias);
    case Apply::kClosedForm:
      SVFLEET_CHECK(linear.merged.defined(), targets_[t].name, " is not merged");
      return merged_linear_closed_form(targets_[t].form, x, linear.weight, linear.merged,
                                       linear.bias, q_[t], d[t]);
    default:
      return adapted_linear(targets_[t].form, x, linear.weight, linear.bias, q_[t], d[t]);
  }
}

at::Tensor Model::norm(const at::Tensor& x, const at::Tensor& weight) const {
  at::ScalarType wide = type_ == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor w = x.to(wide);
  at::Tensor scale = (w.square().mean(-1, true) + arch_.rms_epsilon).rsqrt();
  return (w * scale).to(type_) * weight;
}

std::pair<at::Tensor, at::Tensor> Model::rotary(std::span<const int64_t> positions) const {
  const int64_t half = int64_t(inverse_frequencies_.size());
  at::Tensor angles = at::empty({int64_t(positions.size()), 1, half}, at::kDouble);
  double* a = angles.data_ptr<double>();
  for (int64_t position : positions)
    for (int64_t i = 0; i < half; ++i) *a++ = double(position) * inverse_frequencies_[i];
  at::ScalarType wide = type_ == at::kDouble ? at::kDouble : at::kFloat;
  // On the host, so that the angles' bits do not depend on the device.
  return {angles.cos().to(wide).to(device_), angles.sin().to(wide).to(device_)};
}

template <class Attend>
at::Tensor Model::run_layers(std::span<const int> tokens, std::span<const int64_t> positions,
                             Apply apply, const std::vector<at::Tensor>& d, Attend attend) const {
  const int64_t count = int64_t(tokens.size());
  for (int64_t position : positions)
    if (arch_.sliding_window && position >= arch_.sliding_window)
      throw user_error("a sequence of more than ", arch_.sliding_window,
                       " tokens needs this model's sliding window, which is not supported; shorten "
                       "the prompts or task.max_new_tokens");
  at::Tensor ids = at::empty({count}, at::kLong);
  for (int64_t i = 0; i < count; ++i) {
    SVFLEET_CHECK(tokens[i] >= 0 && tokens[i] < arch_.vocabulary, "token ", tokens[i]);
    ids.data_ptr<int64_t>()[i] = tokens[i];
  }
  const auto counter = stage_counter();  // the backward pass may run in another thread
  auto rope = rotary(positions);
  at::Tensor h = embedding_.index_select(0, ids.to(device_));  // [T, hidden]
  for (int i = 0; i < arch_.layers; ++i) {
    enter(Stage::kLayer, double(count));
    const Layer& layer = layers_[i];
    auto linear = [&](int j, const at::Tensor& x) {
      return apply_linear(layer.linears[j], x, apply, d);
    };
    at::Tensor x = norm(h, layer.input_norm);
    at::Tensor q = rotate(linear(0, x).view({count, arch_.heads, arch_.head_dim}), rope);
    at::Tensor k = rotate(linear(1, x).view({count, arch_.kv_heads, arch_.head_dim}), rope);
    at::Tensor v = linear(2, x).view({count, arch_.kv_heads, arch_.head_dim});
    h = h + linear(3, attend(i, q, k, v));
    x = norm(h, layer.post_norm);
    h = h + linear(6, at::silu(linear(4, x)) * linear(5, x));
    if (counter && h.requires_grad())
      h.register_hook([counter, count](const at::Tensor&) {
        counter->enter(stage_class(Stage::kBackward, double(count)));
      });
  }
  return norm(h, final_norm_);
}

at::Tensor Model::forward(std::span<const int> tokens, const std::vector<Segment>& segments,
                          Apply apply, const std::vector<at::Tensor>& d,
                          std::vector<LayerKv>* kv) const {
  std::vector<int64_t> positions(tokens.size());
  for (const Segment& segment : segments)
    for (int64_t i = 0; i < segment.length; ++i)
      positions[segment.start + i] = segment.position + i;
  if (kv) kv->resize(arch_.layers);
  return run_layers(tokens, positions, apply, d,
                    [&](int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
                      if (kv) (*kv)[layer] = {k, v};
                      std::vector<at::Tensor> out;
                      for (const Segment& segment : segments) {
                        std::vector<at::Tensor> ks, vs;  // own, then ancestors; reversed below
                        for (const Segment* s = &segment; s;
                             s = s->parent < 0 ? nullptr : &segments[s->parent]) {
                          ks.insert(ks.begin(), k.narrow(0, s->start, s->length));
                          vs.insert(vs.begin(), v.narrow(0, s->start, s->length));
                        }
                        out.push_back(causal_attention(q.narrow(0, segment.start, segment.length),
                                                       at::cat(ks), at::cat(vs)));
                      }
                      return at::cat(out);
                    });
}

at::Tensor Model::decode(std::span<const int> tokens, std::span<const int64_t> positions,
                         Apply apply, const std::vector<at::Tensor>& d, DecodeCache& cache) const {
  const int64_t rows = int64_t(tokens.size()), column = cache.filled++;
  const int64_t share = arch_.heads / arch_.kv_heads;
  at::Tensor mask = cache.mask.narrow(1, 0, cache.filled)
                        .view({rows, 1, 1, cache.filled})
                        .expand({rows, 1, share, cache.filled});
  return run_layers(tokens, positions, apply, d,
                    [&](int layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
                      cache.k[layer].select(2, column).copy_(k);
                      cache.v[layer].select(2, column).copy_(v);
                      return at::scaled_dot_product_attention(
                                 q.view({rows, arch_.kv_heads, share, arch_.head_dim}),
                                 cache.k[layer].narrow(2, 0, cache.filled),
                                 cache.v[layer].narrow(2, 0, cache.filled), mask)
                          .reshape({rows, arch_.heads * arch_.head_dim});
                    });
}

}  // namespace svfleet
