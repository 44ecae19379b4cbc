// What config.json and generation_config.json say of a Llama-family decoder. No torch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "svd/target.h"

namespace svfleet {

struct RopeScaling {
  bool llama3 = false;  // rope_type "llama3" (Llama 3.1); otherwise plain RoPE
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_max_position = 8192;
  bool operator==(const RopeScaling&) const = default;
};

struct Architecture {
  std::string model_type;  // llama, mistral, qwen2
  int layers = 0;
  int64_t hidden = 0, intermediate = 0, vocabulary = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  double rms_epsilon = 1e-5;
  double rope_theta = 10000;
  RopeScaling rope;
  bool tied_embeddings = false;
  bool qkv_bias = false;
  int64_t max_positions = 0;
  int64_t sliding_window = 0;  // 0 = none; longer sequences than this are refused
  std::vector<int> stop_tokens;
  std::string stops_from;  // the file that names them

  // Hash of every field but stops_from: what the folder's JSON files make of the weights.
  std::string content_hash() const;
  // The same hash but for the stop tokens, a blank, and the file that names these: where two
  // folders differ, it says in which file.
  std::string shape() const;
  // Rows and columns of the seven linear kinds, in forward order.
  std::vector<MatrixShape> linear_shapes() const;
};

// Error(kExitUser) when there is no such folder; knows the names of the Hugging Face Hub.
void check_model_folder(const std::string& folder);

// Error(kExitUser) names the file and the field that is missing or not supported.
Architecture read_architecture(const std::string& folder);

}  // namespace svfleet
