#include "worker/model/architecture.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "checkpoints/lfs_pointer.h"
#include "comm/error.h"
#include "worker/model/config_field.h"
#include "worker/model/rope.h"

namespace svfleet {
namespace {

using nlohmann::json;

json read_json(const std::string& path) {
  const std::string bytes = read_file(path);
  refuse_lfs_pointer(path, bytes);
  json value = json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  if (!value.is_object())
    throw user_error("'", path, "' is not a JSON object; the model folder is damaged");
  return value;
}

constexpr int64_t kMostLayers = 10000;  // no model has a tenth of them

int64_t required(const json& config, const std::string& path, const char* name) {
  int64_t value = field<int64_t>(config, path, name, -1);
  if (value <= 0)
    throw user_error("'", path, "': field '", name, "' is missing or not a positive number");
  return value;
}

// May be missing, but says nothing when it is there and not above 0.
template <class Number>
Number above_zero(const json& config, const std::string& path, const char* name, Number fallback) {
  const auto it = config.find(name);
  const Number value = field<Number>(config, path, name, fallback);
  if (it != config.end() && !it->is_null() && !(value > 0))
    throw user_error("'", path, "': ", name, " ", it->dump(),
                     " must be above 0; take it from the model's first config.json");
  return value;
}

void add_stop_tokens(const json& config, const std::string& path, std::vector<int>* stops) {
  auto it = config.find("eos_token_id");
  if (it == config.end() || it->is_null()) return;
  if (it->is_number_integer())
    stops->push_back(it->get<int>());
  else if (it->is_array() && std::all_of(it->begin(), it->end(),
                                         [](const json& id) { return id.is_number_integer(); }))
    *stops = it->get<std::vector<int>>();
  else
    throw user_error("'", path, "': eos_token_id must be a number or a list of numbers");
}

void refuse_unsupported(const json& config, const std::string& path) {
  std::string activation = field<std::string>(config, path, "hidden_act", "silu");
  if (activation != "silu")
    throw user_error("'", path, "': hidden_act '", activation, "' is not supported; only silu is");
  for (const char* name : {"mlp_bias", "attention_bias"})
    if (field<bool>(config, path, name, false))
      throw user_error("'", path, "': ", name, ": true is not supported");
  const auto is_set = [&](const char* name) {
    auto it = config.find(name);
    return it != config.end() && !it->is_null();
  };
  for (const char* name : {"quantization_config", "compression_config"})
    if (is_set(name))
      throw user_error("'", path, "': quantised weights (", name,
                       ") are not supported; use the model's float folder");
  for (const char* name : {"num_local_experts", "num_experts"})
    if (is_set(name))
      throw user_error("'", path, "': mixture-of-experts models (", name, ") are not supported");
  if (!field<bool>(config, path, "is_causal", true))
    throw user_error("'", path, "': is_causal: false is not supported: each token would see those ",
                     "behind it");
  if (is_set("layer_types")) {
    for (const std::string& type : field<std::vector<std::string>>(config, path, "layer_types", {}))
      if (type != "full_attention" && type != "sliding_attention")
        throw user_error("'", path, "': a layer of type '", type, "' (layer_types) is not ",
                         "supported; only full_attention and sliding_attention are");
  }
}

// Factors that other families apply to activations and logits. In a folder that calls itself one of
// ours they are what its makers meant, unless they change nothing.
void refuse_scalings(const json& config, const std::string& path, const Architecture& arch) {
  const double head_dim = double(arch.head_dim);
  const std::pair<const char*, double> neutral[] = {
      {"embedding_multiplier", 1},
      {"residual_multiplier", 1},
      {"lm_head_multiplier", 1},
      {"logits_scaling", 1},
      {"logit_scale", 1},
      {"scale_emb", 1},
      {"attention_multiplier", 1 / std::sqrt(head_dim)},
      {"query_pre_attn_scalar", head_dim}};
  for (const auto& [name, value] : neutral)
    if (const double found = field<double>(config, path, name, value);
        std::abs(found - value) > 1e-6 * value)
      throw user_error("'", path, "': ", name, " ", found, " is not supported; only ", value,
                       ", which changes nothing, is");
  for (const char* name : {"final_logit_softcapping", "attn_logit_softcapping", "clip_qkv"})
    if (const auto it = config.find(name); it != config.end() && !it->is_null())
      throw user_error("'", path, "': ", name, " ", it->dump(), " is not supported; only null is");
}

// What transformers takes where config.json has no such field.
int64_t default_kv_heads(const Architecture& arch) {
  return arch.model_type == "mistral" ? 8 : arch.model_type == "qwen2" ? 32 : arch.heads;
}

constexpr int64_t kDefaultWindow = 4096;  // of mistral, and of qwen2 where it is in use

}  // namespace

std::string Architecture::shape() const {
  Architecture alone = *this;
  alone.stop_tokens.clear();
  return alone.content_hash() + " " + stops_from;
}

std::string Architecture::content_hash() const {
  return hash_bytes(json{model_type,
                         layers,
                         hidden,
                         intermediate,
                         vocabulary,
                         heads,
                         kv_heads,
                         head_dim,
                         rms_epsilon,
                         rope_theta,
                         {rope.llama3, rope.factor, rope.low_freq_factor, rope.high_freq_factor,
                          rope.original_max_position},
                         tied_embeddings,
                         qkv_bias,
                         max_positions,
                         sliding_window,
                         stop_tokens}
                        .dump());
}

std::vector<MatrixShape> Architecture::linear_shapes() const {
  const int64_t q = heads * head_dim, kv = kv_heads * head_dim;
  return {{"q_proj", q, hidden},
          {"k_proj", kv, hidden},
          {"v_proj", kv, hidden},
          {"o_proj", hidden, q},
          {"gate_proj", intermediate, hidden},
          {"up_proj", intermediate, hidden},
          {"down_proj", hidden, intermediate}};
}

void check_model_folder(const std::string& folder) {
  if (is_folder(folder)) return;
  const bool hub_id = !folder.empty() && folder[0] != '/' && folder[0] != '.' &&
                      std::count(folder.begin(), folder.end(), '/') == 1 && folder.back() != '/' &&
                      !file_exists(folder.substr(0, folder.find('/')));
  throw user_error("there is no model folder '", folder, "'; check model.path",
                   hub_id ? ": a model of the Hugging Face Hub is downloaded first (hf download " +
                                folder + " --local-dir FOLDER)"
                          : "");
}

Architecture read_architecture(const std::string& folder) {
  check_model_folder(folder);
  const std::string path = folder + "/config.json";
  if (!file_exists(path))
    throw user_error("'", folder, "' is not a Hugging Face model folder: no config.json; check ",
                     "model.path");
  json config = read_json(path);
  Architecture arch;
  arch.model_type = field<std::string>(config, path, "model_type", "");
  if (arch.model_type != "llama" && arch.model_type != "mistral" && arch.model_type != "qwen2")
    throw user_error("'", path, "': model_type '", arch.model_type,
                     "' is not supported; supported are llama, mistral and qwen2");
  refuse_unsupported(config, path);
  const int64_t layers = required(config, path, "num_hidden_layers");
  if (layers > kMostLayers)
    throw user_error("'", path, "': num_hidden_layers is ", layers, ", more than ", kMostLayers,
                     "; is the file damaged?");
  arch.layers = int(layers);
  arch.hidden = required(config, path, "hidden_size");
  arch.intermediate = required(config, path, "intermediate_size");
  arch.vocabulary = required(config, path, "vocab_size");
  arch.heads = required(config, path, "num_attention_heads");
  arch.kv_heads =
      field<int64_t>(config, path, "num_key_value_heads",
                     config.contains("num_key_value_heads") ? arch.heads : default_kv_heads(arch));
  arch.head_dim = field<int64_t>(config, path, "head_dim", arch.hidden / arch.heads);
  if (arch.kv_heads <= 0 || arch.heads % arch.kv_heads)
    throw user_error("'", path, "': num_attention_heads ", arch.heads,
                     " is not a multiple of num_key_value_heads ", arch.kv_heads);
  if (arch.head_dim <= 0 || arch.head_dim % 2)
    throw user_error("'", path, "': head_dim ", arch.head_dim, " is not a positive even number");
  refuse_scalings(config, path, arch);
  arch.rms_epsilon = above_zero<double>(config, path, "rms_norm_eps", 1e-6);
  arch.max_positions = above_zero<int64_t>(config, path, "max_position_embeddings", 0);
  read_rope(config, path, &arch);
  arch.tied_embeddings = field<bool>(config, path, "tie_word_embeddings", false);
  arch.qkv_bias = arch.model_type == "qwen2";
  // Qwen2 writes a window that it does not use unless use_sliding_window is set.
  if (arch.model_type != "qwen2" || field<bool>(config, path, "use_sliding_window", false))
    arch.sliding_window = above_zero<int64_t>(
        config, path, "sliding_window",
        arch.model_type == "llama" || config.contains("sliding_window") ? 0 : kDefaultWindow);

  const std::string generation = folder + "/generation_config.json";
  if (file_exists(generation))
    add_stop_tokens(read_json(generation), generation, &arch.stop_tokens);
  arch.stops_from = arch.stop_tokens.empty() ? "config.json" : "generation_config.json";
  if (arch.stop_tokens.empty()) add_stop_tokens(config, path, &arch.stop_tokens);
  if (arch.stop_tokens.empty())
    throw user_error("'", path, "': no eos_token_id here or in generation_config.json: a reply ",
                     "could never end");
  for (const int id : arch.stop_tokens)
    if (id < 0 || id >= arch.vocabulary)
      throw user_error("'", folder, "/", arch.stops_from, "': eos_token_id ", id,
                       " is outside the vocabulary of ", arch.vocabulary,
                       " tokens: a reply could never end with it");
  return arch;
}

}  // namespace svfleet
