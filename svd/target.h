// Which matrices of a model are adapted, in what form, and where each one's z lies in the flat
// parameter vector. No torch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svfleet {

// Right: Q = V on the input side, W' = W + W Q diag(z-1) Q^T. Left: Q = U on the output side,
// W' = W + Q diag(z-1) Q^T W. A matrix that tensor parallelism cuts by rows needs right to be
// merged without communication, one that it cuts by columns left. On the larger side Q is thin: it
// has only the r directions that have a singular value.
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
  // Q is [basis_rows, r]: the side that it is on.
  int64_t basis_rows() const { return form == Form::kRight ? cols : rows; }
};

// The same matrix with Q on its smaller side; of square ones o_proj is left and others right.
Target on_smaller_side(Target target);
// With Q on the side that tensor parallelism needs, whatever its shape: q, gate and up right, o and
// down left. k and v, which are small, have it on the smaller side.
Target on_sharded_side(Target target);

// All seven linear kinds of a decoder layer, in the order of the forward pass.
const std::vector<std::string>& linear_kinds();
std::string weight_name(int layer, const std::string& kind);

struct MatrixShape {
  std::string kind;
  int64_t rows, cols;
};
// The targets that `patterns` (mlp, attention, all, or a kind) and `layers` ("all" or "0..3,7")
// choose, by layer, then in forward order, on the sharded side. Error(kExitUser) for an unknown
// pattern, a layer outside the model, or an empty choice.
std::vector<Target> choose_targets(const std::vector<std::string>& patterns,
                                   const std::string& layers, int layer_count,
                                   const std::vector<MatrixShape>& shapes);

int64_t total_length(const std::vector<Target>& targets);

}  // namespace svfleet
