#include "worker/model/model_tensors.h"

#include <charconv>
#include <set>

#include "comm/error.h"

namespace svfleet {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

std::set<std::string> names_of(const Architecture& arch, const EmbeddingNames& embedding) {
  std::set<std::string> names = {"model.norm.weight", embedding.embedding, embedding.head};
  for (int layer = 0; layer < arch.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    names.insert(prefix + "input_layernorm.weight");
    names.insert(prefix + "post_attention_layernorm.weight");
    for (const MatrixShape& shape : arch.linear_shapes()) {
      const std::string name = weight_name(layer, shape.kind);
      names.insert(name);
      const bool biased =
          shape.kind == "q_proj" || shape.kind == "k_proj" || shape.kind == "v_proj";
      if (arch.qkv_bias && biased) names.insert(name.substr(0, name.size() - 6) + "bias");
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

EmbeddingNames embedding_names(const SafetensorsFolder& files, const Architecture& arch) {
  if (!arch.tied_embeddings) return {kEmbedding, kHead};
  const std::string name = !files.has(kEmbedding) && files.has(kHead) ? kHead : kEmbedding;
  return {name, name};
}

void check_tensors(const SafetensorsFolder& files, const Architecture& arch) {
  const std::set<std::string> known = names_of(arch, embedding_names(files, arch));
  for (const std::string& name : files.names()) {
    if (known.contains(name) || is_passed_over(files.at(name))) continue;
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
