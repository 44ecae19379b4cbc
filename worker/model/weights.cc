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

Weights::Weights(const std::string& folder, at::ScalarType type, at::Device device)
    : arch_(read_architecture(folder)),
      type_(type),
      device_(device),
      files_(folder),
      rope_frequencies_(svfleet::rope_frequencies(arch_)) {
  auto read = [&](const std::string& name, std::vector<int64_t> shape) {
    at::Tensor weight = read_weight(files_, name, shape, type_).to(device_);
    tensor_hashes_[name] = files_.tensor_hash(name);  // now, while its pages are in memory
    return weight;
  };
  check_tensors(files_, arch_);
  const EmbeddingNames names = embedding_names(files_, arch_);
  embedding_ = Matrix(read(names.embedding, {arch_.vocabulary, arch_.hidden}), /*looked_up=*/true);
  final_norm_ = read("model.norm.weight", {arch_.hidden});
  head_ = Head(arch_.tied_embeddings ? embedding_
                                     : Matrix(read(names.head, {arch_.vocabulary, arch_.hidden})));
  const std::vector<MatrixShape> shapes = arch_.linear_shapes();
  for (int i = 0; i < arch_.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    DecoderLayer& layer = layers_.emplace_back();
    layer.input_norm = read(prefix + "input_layernorm.weight", {arch_.hidden});
    layer.post_norm = read(prefix + "post_attention_layernorm.weight", {arch_.hidden});
    for (size_t j = 0; j < shapes.size(); ++j) {
      std::string name = weight_name(i, shapes[j].kind);
      layer.linears[j].weight = Matrix(read(name, {shapes[j].rows, shapes[j].cols}));
      if (arch_.qkv_bias && j < 3)
        layer.linears[j].bias = read(name.substr(0, name.size() - 6) + "bias", {shapes[j].rows});
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
    add(layer.input_norm), add(layer.post_norm);
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
  const auto& kinds = linear_kinds();
  for (int i = 0; i < arch_.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    add(prefix + "input_layernorm.weight", layer(i).input_norm);
    add(prefix + "post_attention_layernorm.weight", layer(i).post_norm);
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
  return embedding_.look_up(tokens);
}

at::Tensor view_of(const std::vector<double>& values) {
  return at::from_blob(const_cast<double*>(values.data()), {int64_t(values.size())},
                       at::TensorOptions(at::kDouble));
}

}  // namespace svfleet
