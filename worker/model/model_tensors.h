// Which tensors a model of an architecture has, and what else its folder may hold. No torch.
#pragma once

#include <string>
#include <vector>

#include "checkpoints/safetensors.h"
#include "worker/model/architecture.h"

namespace svfleet {

// The folder's tensors under the names of a Llama's: of a multimodal folder the language model's
// (language_model.model.layers... is model.layers...), and of fused tensors each slice under the
// name that it has where it stands alone (rows of self_attn.qkv_proj are q_proj, k_proj and v_proj,
// of mlp.gate_up_proj gate_proj and up_proj). Error(kExitUser) for a fused tensor of another
// height.
SafetensorsFolder open_tensors(const std::string& folder, const Architecture& arch);

// Of kinds of linears that are slices of a fused tensor: its name behind "model.layers.N.", or "".
std::string fused_name(const Architecture& arch, const std::string& kind);
// Where a kind's rows stand in the tensor that has them, its own or a fused one.
struct SliceOfTensor {
  int64_t first_row, whole_rows;
};
SliceOfTensor slice_of(const Architecture& arch, const std::string& kind);

// The tensors of the embedding and of the head. They are one under tied embeddings, and then the
// folder may hold it under either name.
struct EmbeddingNames {
  std::string embedding, head;
};
EmbeddingNames embedding_names(const SafetensorsFolder& files, const Architecture& arch);

// Of a layer's norms, behind "model.layers.N.", and their length; empty where there is none.
struct NormName {
  std::string name;
  int64_t length = 0;
};
struct NormNames {
  NormName attention, attention_out, mlp, mlp_out, q, k;  // `out`: of what they add
};
NormNames norm_names(const Architecture& arch);

// Whether the linear of this number, in the order of linear_kinds(), has a bias.
bool has_bias(const Architecture& arch, size_t linear);
std::string bias_name(const std::string& weight_name);

// Error(kExitUser) for a tensor that no part of the model reads, since the folder is then of
// another model than config.json says, and for a head of its own under tied embeddings. Passed over
// are RoPE's inv_freq, whole numbers and truth values, a head that equals the embedding, and in a
// multimodal folder what sees.
void check_tensors(const SafetensorsFolder& files, const Architecture& arch);

}  // namespace svfleet
