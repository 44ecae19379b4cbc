#include "worker/model/weights.h"

#include <ATen/ATen.h>

#include "checkpoints/hash.h"
#include "comm/error.h"
#include "comm/stage.h"
#include "worker/model/model_tensors.h"
#include "worker/model/operations.h"
#include "worker/model/read_weight.h"
#include "worker/model/rope.h"

namespace svfleet {

namespace {

// The kernels of a GPU read fewer flags than the CPU's.
void check_device(const Architecture& arch, at::Device device) {
  if (!device.is_cuda()) return;
  const std::pair<const char*, bool> missing[] = {
      {"soft caps", arch.attention_cap > 0 || arch.logit_cap > 0},
      {"norms behind attention and MLP", arch.has_norm_behind()},
      {"norms of queries and keys", arch.has_qk_norm()},
      {"gelu_tanh", arch.activation != Activation::kSilu},
      {"partial rotary positions", arch.rotary_dim != arch.head_dim},
      {"a residual multiplier", arch.residual_scale != 1}};
  for (const auto& [what, is_missing] : missing)
    if (is_missing)
      throw user_error("a model of model_type ", arch.model_type, " has ", what,
                       ", which no GPU kernel here computes yet; set model.device: cpu");
}

double embedding_scale(const Architecture& arch, at::ScalarType type) {
  if (!arch.embedding_scale_rounded) return arch.embedding_scale;
  return at::scalar_tensor(arch.embedding_scale, at::kDouble).to(type).item<double>();
}

}  // namespace

Weights::Weights(const std::string& folder, at::ScalarType type, at::Device device,
                 int64_t max_length)
    : Weights(folder, read_architecture(folder, max_length), type, device) {}

Weights::Weights(const std::string& folder, Architecture arch, at::ScalarType type,
                 at::Device device)
    : arch_(std::move(arch)),
      type_(type),
      device_(device),
      files_(open_tensors(folder, arch_)),
      rope_frequencies_(svfleet::rope_frequencies(arch_)),
      local_frequencies_(local_rope_frequencies(arch_)),
      embedding_scale_(embedding_scale(arch_, type)) {
  check_device(arch_, device_);
  auto read = [&](const std::string& name, std::vector<int64_t> shape) {
    at::Tensor weight = read_weight(files_, name, shape, type_).to(device_);
    tensor_hashes_[name] = files_.tensor_hash(name);  // now, while its pages are in memory
    return weight;
  };
  check_tensors(files_, arch_);
  const EmbeddingNames names = embedding_names(files_, arch_);
  embedding_ = Matrix(read(names.embedding, {arch_.vocabulary, arch_.hidden}), /*looked_up=*/true);
  const auto read_norm = [&](const std::string& name, int64_t length) {
    const at::Tensor stored = read(name, {length});
    if (!arch_.norm_rounds_once) return stored;
    const at::Tensor wide = stored.to(wide_type());
    return arch_.norm_adds_one ? wide + 1 : wide;
  };
  final_norm_ = read_norm("model.norm.weight", arch_.hidden);
  head_ = Head(arch_.tied_embeddings ? embedding_
                                     : Matrix(read(names.head, {arch_.vocabulary, arch_.hidden})),
               {arch_.logit_divisor, arch_.logit_cap});
  const std::vector<MatrixShape> shapes = arch_.linear_shapes();
  const NormNames norms = norm_names(arch_);
  for (int i = 0; i < arch_.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    DecoderLayer& layer = layers_.emplace_back();
    const auto norm = [&](const NormName& of) {
      return of.length ? read_norm(prefix + of.name, of.length) : at::Tensor();
    };
    layer.attention_norm = norm(norms.attention);
    layer.mlp_norm = norm(norms.mlp);
    layer.attention_out_norm = norm(norms.attention_out);
    layer.mlp_out_norm = norm(norms.mlp_out);
    layer.q_norm = norm(norms.q);
    layer.k_norm = norm(norms.k);
    for (size_t j = 0; j < shapes.size(); ++j) {
      std::string name = weight_name(i, shapes[j].kind);
      layer.linears[j].weight = Matrix(read(name, {shapes[j].rows, shapes[j].cols}));
      if (has_bias(arch_, j)) layer.linears[j].bias = read(bias_name(name), {shapes[j].rows});
    }
  }
  files_.forget_pages();
}

std::string Weights::hash() const {
  const InStage hashing(Stage::kHash);
  Hasher hasher;
  auto add = [&](const at::Tensor& t) {
    enter(Stage::kHash);
    if (t.defined()) hasher.raw(t.cpu().data_ptr(), t.nbytes());
  };
  add(embedding_.plain()), add(final_norm_), add(head_.matrix().plain());
  for (const DecoderLayer& layer : layers_) {
    add(layer.attention_norm), add(layer.mlp_norm);
    add(layer.attention_out_norm), add(layer.mlp_out_norm), add(layer.q_norm), add(layer.k_norm);
    for (const Linear& linear : layer.linears) add(linear.weight.plain()), add(linear.bias);
  }
  return hasher.hex();
}

NamedTensors Weights::frozen() const {
  NamedTensors all;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    if (tensor.defined()) all.emplace_back("'" + name + "'", tensor);
  };
  add("model.embed_tokens.weight", embedding_.plain_if_kept());
  add("model.norm.weight", final_norm_);
  if (!arch_.tied_embeddings) add("lm_head.weight", head_.matrix().plain_if_kept());
  for (const at::Tensor& copy : head_.matrix().packed()) add("the head (packed)", copy);
  add("RoPE frequencies", view_of(rope_frequencies_));
  if (!local_frequencies_.empty()) add("local RoPE frequencies", view_of(local_frequencies_));
  const NormNames norms = norm_names(arch_);
  const auto& kinds = linear_kinds();
  for (int i = 0; i < arch_.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    add(prefix + norms.attention.name, layer(i).attention_norm);
    add(prefix + norms.mlp.name, layer(i).mlp_norm);
    add(prefix + norms.attention_out.name, layer(i).attention_out_norm);
    add(prefix + norms.mlp_out.name, layer(i).mlp_out_norm);
    add(prefix + norms.q.name, layer(i).q_norm);
    add(prefix + norms.k.name, layer(i).k_norm);
    for (size_t j = 0; j < kinds.size(); ++j) {
      const std::string name = weight_name(i, kinds[j]);
      add(name, layer(i).linears[j].weight.plain_if_kept());
      for (const at::Tensor& copy : layer(i).linears[j].weight.packed())
        add(name + " (packed)", copy);
      add(name + " (bias)", layer(i).linears[j].bias);
    }
  }
  return all;
}

at::Tensor Weights::embed(std::span<const int> tokens) const {
  for (const int token : tokens)
    SVFLEET_CHECK(token >= 0 && token < arch_.vocabulary, "token ", token);
  const at::Tensor rows = embedding_.look_up(tokens);
  return embedding_scale_ == 1 ? rows : rows.mul_(embedding_scale_);
}

at::Tensor view_of(const std::vector<double>& values) {
  return at::from_blob(const_cast<double*>(values.data()), {int64_t(values.size())},
                       at::TensorOptions(at::kDouble));
}

}  // namespace svfleet
