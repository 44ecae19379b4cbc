#include "worker/model/model_tensors.h"

#include <charconv>
#include <set>

#include "comm/error.h"

namespace svfleet {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

constexpr const char* kFusedAttention = "self_attn.qkv_proj.weight";
constexpr const char* kFusedMlp = "mlp.gate_up_proj.weight";

std::string layer_prefix(int layer) {
  return "model.layers." + std::to_string(layer) + ".";
}

// What a tensor of a multimodal folder is called in one of the language model alone. Folders on the
// Hub and those that transformers 5 saves put the two words in different orders.
std::string own_name(const Architecture& arch, const std::string& name) {
  if (!arch.multimodal) return name;
  for (const std::string prefix : {"language_model.model.", "model.language_model."})
    if (name.starts_with(prefix)) return "model." + name.substr(prefix.size());
  return name == std::string("language_model.") + kHead ? kHead : name;
}

bool is_of_vision(const Architecture& arch, const std::string& name) {
  if (!arch.multimodal) return false;
  for (const char* prefix : {"vision_tower.", "multi_modal_projector.", "model.vision_tower.",
                             "model.multi_modal_projector."})
    if (name.starts_with(prefix)) return true;
  return false;
}

std::set<std::string> names_of(const Architecture& arch, const EmbeddingNames& embedding) {
  std::set<std::string> names = {"model.norm.weight", embedding.embedding, embedding.head};
  const NormNames norms = norm_names(arch);
  const std::vector<MatrixShape> shapes = arch.linear_shapes();
  for (int layer = 0; layer < arch.layers; ++layer) {
    for (const NormName* norm :
         {&norms.attention, &norms.attention_out, &norms.mlp, &norms.mlp_out, &norms.q, &norms.k})
      if (norm->length) names.insert(layer_prefix(layer) + norm->name);
    for (size_t j = 0; j < shapes.size(); ++j) {
      const std::string name = weight_name(layer, shapes[j].kind),
                        fused = fused_name(arch, shapes[j].kind);
      names.insert(fused.empty() ? name : layer_prefix(layer) + fused);
      if (has_bias(arch, j)) names.insert(bias_name(name));
    }
  }
  return names;
}

bool is_passed_over(const TensorView& view) {
  if (view.name.ends_with(".rotary_emb.inv_freq")) return true;  // follows from config.json
  return view.dtype == "BOOL" || view.dtype[0] == 'I' || view.dtype[0] == 'U';
}

// N of "model.layers.N."; -1 for other names.
int layer_of(const std::string& name) {
  constexpr std::string_view kLayers = "model.layers.";
  if (!name.starts_with(kLayers)) return -1;
  int layer = -1;
  std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer);
  return layer;
}

}  // namespace

std::string fused_name(const Architecture& arch, const std::string& kind) {
  if (!arch.fused) return "";
  if (kind == "q_proj" || kind == "k_proj" || kind == "v_proj") return kFusedAttention;
  return kind == "gate_proj" || kind == "up_proj" ? kFusedMlp : "";
}

SliceOfTensor slice_of(const Architecture& arch, const std::string& kind) {
  const std::string fused = fused_name(arch, kind);
  SliceOfTensor slice{0, 0};
  bool reached = false;
  for (const MatrixShape& shape : arch.linear_shapes()) {
    const bool own = shape.kind == kind;
    if (fused.empty() ? !own : fused_name(arch, shape.kind) != fused) continue;
    reached = reached || own;
    if (!reached) slice.first_row += shape.rows;
    slice.whole_rows += shape.rows;
  }
  return slice;
}

SafetensorsFolder open_tensors(const std::string& folder, const Architecture& arch) {
  SafetensorsFolder files(folder);
  for (const std::string& name : files.names())
    if (const std::string own = own_name(arch, name); own != name) files.also_call(own, name);
  if (!arch.fused) return files;
  for (int layer = 0; layer < arch.layers; ++layer)
    for (const MatrixShape& shape : arch.linear_shapes()) {
      const std::string fused = fused_name(arch, shape.kind);
      if (fused.empty()) continue;
      const std::string whole = layer_prefix(layer) + fused;
      const auto [first, rows] = slice_of(arch, shape.kind);
      const std::vector<int64_t>& stored = files.at(whole).shape;
      if (stored.empty() || stored[0] != rows)
        throw user_error("tensor '", whole, "' has ", stored.empty() ? 0 : stored[0],
                         " rows, but config.json makes it ", rows,
                         "; the model folder's files do not belong together");
      files.also_call(weight_name(layer, shape.kind), whole, first, shape.rows);
    }
  return files;
}

bool has_bias(const Architecture& arch, size_t linear) {
  return linear < 3 ? arch.qkv_bias : linear == 3 ? arch.output_bias : arch.mlp_bias;
}

std::string bias_name(const std::string& weight_name) {
  return weight_name.substr(0, weight_name.rfind('.')) + ".bias";
}

NormNames norm_names(const Architecture& arch) {
  NormNames names;
  const char* const behind_attention = "post_attention_layernorm.weight";
  if (arch.has_norm_before()) names.attention = {"input_layernorm.weight", arch.hidden};
  if (arch.has_norm_behind()) {
    names.attention_out = {behind_attention, arch.hidden};
    names.mlp_out = {"post_feedforward_layernorm.weight", arch.hidden};
  }
  // Llama's name tells where it stands, not what it norms.
  if (arch.norm_place == NormPlace::kBefore) names.mlp = {behind_attention, arch.hidden};
  if (arch.norm_place == NormPlace::kAround)
    names.mlp = {"pre_feedforward_layernorm.weight", arch.hidden};
  if (arch.has_qk_norm()) {
    const bool whole = arch.qk_norm == QkNorm::kWhole;
    names.q = {"self_attn.q_norm.weight", arch.head_dim * (whole ? arch.heads : 1)};
    names.k = {"self_attn.k_norm.weight", arch.head_dim * (whole ? arch.kv_heads : 1)};
  }
  return names;
}

EmbeddingNames embedding_names(const SafetensorsFolder& files, const Architecture& arch) {
  if (!arch.tied_embeddings) return {kEmbedding, kHead};
  const std::string name = !files.has(kEmbedding) && files.has(kHead) ? kHead : kEmbedding;
  return {name, name};
}

void check_tensors(const SafetensorsFolder& files, const Architecture& arch) {
  const std::set<std::string> known = names_of(arch, embedding_names(files, arch));
  for (const std::string& in_file : files.names()) {
    const std::string name = own_name(arch, in_file);
    if (known.contains(name) || is_passed_over(files.at(name)) || is_of_vision(arch, name))
      continue;
    if (name == kHead) {  // tied
      if (files.tensor_hash(kHead) == files.tensor_hash(kEmbedding)) continue;
      throw user_error("tensor '", kHead, "' differs from '", kEmbedding, "', but config.json has ",
                       "tie_word_embeddings: true; set that to false, or remove the tensor");
    }
    if (name.ends_with(".bias"))
      throw user_error("tensor '", name, "': a bias that model_type ", arch.model_type,
                       " does not have is not supported");
    if (layer_of(name) >= arch.layers)
      throw user_error("tensor '", name, "' belongs to layer ", layer_of(name),
                       ", but config.json says num_hidden_layers ", arch.layers,
                       "; the model folder's files do not belong together");
    throw user_error(
        "tensor '", name, "' is not part of a model of model_type ", arch.model_type,
        ": without it the model would answer otherwise; it needs another architecture ",
        "than config.json names");
  }
}

}  // namespace svfleet
