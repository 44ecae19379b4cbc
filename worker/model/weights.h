// The frozen weights of a Llama-family model: read once, never changed. Nothing of experts.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "checkpoints/safetensors.h"
#include "worker/model/architecture.h"
#include "worker/model/head.h"
#include "worker/model/matrix.h"

namespace svfleet {

// Tensors under names for people, in the memory that is computed with.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct Linear {
  Matrix weight;    // [outputs, inputs]
  at::Tensor bias;  // [outputs], or undefined
};

struct DecoderLayer {
  at::Tensor input_norm, post_norm;  // [hidden]
  Linear linears[7];                 // in the order of linear_kinds()
};

class Weights {
 public:
  // Reads `folder` into `type` (kFloat, kBFloat16 or kDouble), a tensor at a time, onto `device`,
  // where everything is computed. Tokens, positions and z come from the host.
  Weights(const std::string& folder, at::ScalarType type, at::Device device = at::kCPU);
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  const Architecture& architecture() const { return arch_; }
  at::ScalarType type() const { return type_; }
  // In which sums, norms and z are: float64 for a float64 model, float32 otherwise.
  at::ScalarType wide_type() const { return type_ == at::kDouble ? at::kDouble : at::kFloat; }
  at::Device device() const { return device_; }
  const SafetensorsFolder& files() const { return files_; }

  // A hash per tensor, SafetensorsFolder::tensor_hash when it was read.
  const std::map<std::string, std::string>& tensor_hashes() const { return tensor_hashes_; }
  // Of all weights in memory, the same on every device: any drift of the base model shows.
  std::string hash() const;
  // All that no step may change here, packed copies included as far as they are made.
  NamedTensors frozen() const;

  at::Tensor embed(std::span<const int> tokens) const;  // [tokens, hidden]
  const DecoderLayer& layer(int i) const { return layers_[size_t(i)]; }
  const at::Tensor& final_norm() const { return final_norm_; }
  const std::vector<double>& rope_frequencies() const { return rope_frequencies_; }
  const Head& head() const { return head_; }

 private:
  const Architecture arch_;
  const at::ScalarType type_;
  const at::Device device_;
  const SafetensorsFolder files_;
  std::map<std::string, std::string> tensor_hashes_;
  const std::vector<double> rope_frequencies_;
  Matrix embedding_;  // [vocabulary, hidden]
  at::Tensor final_norm_;
  Head head_;  // of the same matrix as the embedding where they are tied
  std::vector<DecoderLayer> layers_;
};

// As a tensor over the same memory.
at::Tensor view_of(const std::vector<double>& values);

}  // namespace svfleet
