// Which matrices of a model are adapted, in what form, and where each one's z lies in the flat
// parameter vector. No torch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svfleet {

// Right: Q = V on the input side, W' = W Q diag(z) Q^T. Left: Q = U on the output side,
// W' = Q diag(z) Q^T W. The smaller Gram matrix decides; a square o_proj is left and other square
// matrices right, so that tensor parallelism needs no communication for a merge.
enum class Form { kRight, kLeft };
const char* form_name(Form form);

struct Target {
  std::string name;  // Hugging Face weight name
  std::string kind;  // q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj
  int layer = 0;
  int64_t rows = 0;  // m, outputs
  int64_t cols = 0;  // n, inputs
  Form form = Form::kRight;
  int64_t offset = 0;                                           // of its z in the flat vector
  int64_t length() const { return rows < cols ? rows : cols; }  // r
};

// All seven linear kinds of a decoder layer, in the order of the forward pass.
const std::vector<std::string>& linear_kinds();
std::string weight_name(int layer, const std::string& kind);

struct MatrixShape {
  std::string kind;
  int64_t rows, cols;
};
// The targets that `patterns` (mlp, attention, all, or a kind) and `layers` ("all" or "0..3,7")
// choose, by layer, then in forward order. Error(kExitUser) for an unknown pattern, a layer outside
// the model, or an empty choice.
std::vector<Target> choose_targets(const std::vector<std::string>& patterns,
                                   const std::string& layers, int layer_count,
                                   const std::vector<MatrixShape>& shapes);

int64_t total_length(const std::vector<Target>& targets);

}  // namespace svfleet
