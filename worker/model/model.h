// Start here: a Llama-family decoder on libtorch, with frozen weights and an expert applied to it.
//
// Tokens come as segments of a tree: a segment attends to itself causally and to all of its
// ancestors. So a prefix shared by several prompts, and a prompt shared by several replies, is
// computed once, in sampling and in the gradient. Const members are thread-safe.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoints/safetensors.h"
#include "svd/factor.h"
#include "worker/model/architecture.h"

namespace svfleet {

// How the expert takes part in a forward pass.
enum class Apply {
  kFrozen,      // not at all: the base model
  kMerged,      // weights W' built by set_expert
  kActivation,  // y = W(x + Q((z-1) o Q^T x)), z given with the call
  kClosedForm,  // W' forward, closed-form z gradient backward
};

struct Segment {
  int64_t start = 0, length = 0;  // rows of the packed sequence
  int parent = -1;                // an earlier segment, or -1
  int64_t position = 0;           // of its first token in its own sequence
};

// Keys and values of one layer, as the segments left them: [tokens, kv_heads, head_dim].
struct LayerKv {
  at::Tensor k, v;
};

// Cache of the decoding loop: row r's tokens end at column `filled`, padding is on the left.
struct DecodeCache {
  std::vector<at::Tensor> k, v;  // per layer [rows, kv_heads, capacity, head_dim]
  at::Tensor mask;               // [rows, capacity], 0 where attended, -inf where padding
  int64_t filled = 0;
};

class Model {
 public:
  // Reads the weights of `folder` into `type` (kFloat, kBFloat16 or kDouble), a tensor at a time,
  // onto `device`, where everything is computed. Tokens, positions and z come from the host.
  Model(const std::string& folder, at::ScalarType type, at::Device device = at::kCPU);

  const Architecture& architecture() const { return arch_; }
  at::ScalarType type() const { return type_; }
  at::Device device() const { return device_; }
  const SafetensorsFolder& files() const { return *files_; }
  // SafetensorsFolder::tensor_hash of every tensor of the model when it was read.
  const std::map<std::string, std::string>& tensor_hashes() const { return tensor_hashes_; }

  // Makes these matrices adaptable. `factors` in the order of the flat z vector.
  void attach(std::vector<Factor> factors);
  const std::vector<Target>& targets() const { return targets_; }
  const std::vector<std::vector<double>>& sigmas() const { return sigmas_; }

  // Builds W' of target `t` for z [all r]; different targets may be merged at the same time.
  // Returns how many entries of W' changed against the previous expert.
  int64_t merge_one(size_t t, std::span<const float> z);
  // W' of target `t` as merge_one built it, to look at or to export.
  const at::Tensor& merged(size_t t) const { return adapted_[t]->merged; }
  // The z of the merged weights [all r], as they are.
  const std::vector<float>& merged_z() const { return merged_z_; }
  // Drops W' (the base model again, and its memory back).
  void unmerge();
  // Hash of the frozen weights in memory, the same on every device: any drift of the base model
  // shows.
  std::string weights_hash() const;

  // All that no step may change, under names for people: weights, bases and singular values, in
  // the memory that is computed with.
  std::vector<std::pair<std::string, at::Tensor>> frozen() const;

  // z - 1 of each target as a tensor [r]; leaves of the graph when `differentiable`.
  std::vector<at::Tensor> expert_tensors(std::span<const float> z, bool differentiable) const;

  // Final hidden states (after the last norm) of all tokens [T, hidden]. `d` is read by
  // kActivation and kClosedForm. With `kv`, each layer's keys and values are kept.
  at::Tensor forward(std::span<const int> tokens, const std::vector<Segment>& segments, Apply apply,
                     const std::vector<at::Tensor>& d, std::vector<LayerKv>* kv = nullptr) const;

  // One token per row through the cache; positions[r] is the token's place in its own sequence.
  // Returns hidden states [rows, hidden]; appends to the cache.
  at::Tensor decode(std::span<const int> tokens, std::span<const int64_t> positions, Apply apply,
                    const std::vector<at::Tensor>& d, DecodeCache& cache) const;

  // Head weights [vocabulary, hidden]; logits = hidden @ head^T.
  const at::Tensor& head() const { return head_; }

 private:
  struct Linear {
    at::Tensor weight, bias, merged;
    int target = -1;
  };
  struct Layer {
    at::Tensor input_norm, post_norm;
    Linear linears[7];  // in the order of linear_kinds()
  };

  at::Tensor expert_tensor(size_t t, std::span<const float> z) const;
  at::Tensor apply_linear(const Linear& linear, const at::Tensor& x, Apply apply,
                          const std::vector<at::Tensor>& d) const;
  at::Tensor norm(const at::Tensor& x, const at::Tensor& weight) const;
  // cos and sin [tokens, 1, head_dim / 2] in float32 (float64 for a float64 model).
  std::pair<at::Tensor, at::Tensor> rotary(std::span<const int64_t> positions) const;
  template <class Attend>
  at::Tensor run_layers(std::span<const int> tokens, std::span<const int64_t> positions,
                        Apply apply, const std::vector<at::Tensor>& d, Attend attend) const;

  Architecture arch_;
  at::ScalarType type_;
  at::Device device_;
  std::unique_ptr<SafetensorsFolder> files_;
  std::map<std::string, std::string> tensor_hashes_;
  at::Tensor embedding_, final_norm_, head_;
  std::vector<double> inverse_frequencies_;
  std::vector<Layer> layers_;
  std::vector<Target> targets_;
  std::vector<std::vector<double>> sigmas_;
  std::vector<float> merged_z_;     // that each W' was built with; 1 where there is none
  std::vector<Linear*> adapted_;    // by target
  std::vector<at::Tensor> wide_q_;  // [r, r] as stored, for merging
  std::vector<at::Tensor> q_;       // [r, r] in the model's type, for the activation form
};

}  // namespace svfleet
