// The frozen weights of a decoder: read once, never changed. Nothing of experts.
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

// Weights of norms as they multiply, 1 + w where the family has it so: in the model's type, or wide
// where the product with them is the norm's only rounding. Undefined where the family has none.
struct DecoderLayer {
  at::Tensor attention_norm, mlp_norm;          // [hidden], of what goes in
  at::Tensor attention_out_norm, mlp_out_norm;  // [hidden], of what is added to the residual
  at::Tensor q_norm, k_norm;  // [head_dim], or [heads * head_dim], [kv_heads * head_dim]
  Linear linears[7];          // in the order of linear_kinds()
};

class Weights {
 public:
  // Reads `folder` into `type` (kFloat, kBFloat16 or kDouble), a tensor at a time, onto `device`,
  // where everything is computed. Tokens, positions and z come from the host. `max_length`:
  // read_architecture's.
  Weights(const std::string& folder, at::ScalarType type, at::Device device = at::kCPU,
          int64_t max_length = 0);
  // As another architecture reads them.
  Weights(const std::string& folder, Architecture arch, at::ScalarType type, at::Device device);
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

  at::Tensor embed(std::span<const int> tokens) const;  // [tokens, hidden], scaled
  const DecoderLayer& layer(int i) const { return layers_[size_t(i)]; }
  const at::Tensor& final_norm() const { return final_norm_; }
  // [rotary_dim / 2]; `local`: of the layers with local_angles, empty where none has.
  const std::vector<double>& rope_frequencies(bool local = false) const {
    return local ? local_frequencies_ : rope_frequencies_;
  }
  const Head& head() const { return head_; }

 private:
  const Architecture arch_;
  const at::ScalarType type_;
  const at::Device device_;
  const SafetensorsFolder files_;
  std::map<std::string, std::string> tensor_hashes_;
  const std::vector<double> rope_frequencies_, local_frequencies_;
  const double embedding_scale_;
  Matrix embedding_;  // [vocabulary, hidden]
  at::Tensor final_norm_;
  Head head_;  // of the same matrix as the embedding where they are tied
  std::vector<DecoderLayer> layers_;
};

// As a tensor over the same memory.
at::Tensor view_of(const std::vector<double>& values);

}  // namespace svfleet
