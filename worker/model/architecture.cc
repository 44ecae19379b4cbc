#include "worker/model/architecture.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "checkpoints/lfs_pointer.h"
#include "comm/error.h"
#include "worker/model/config_field.h"
#include "worker/model/family.h"
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

int64_t required(const json& config, const std::string& path, const char* name,
                 int64_t fallback = 0) {
  int64_t value = field<int64_t>(config, path, name, config.contains(name) ? 0 : fallback);
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

void add_stop_tokens(const json& config, const std::string& path, Architecture* arch) {
  auto it = config.find("eos_token_id");
  if (it == config.end() || it->is_null()) return;
  const json ids = it->is_array() ? *it : json::array({*it});
  for (const json& id : ids) {
    if (!id.is_number_integer())
      throw user_error("'", path, "': eos_token_id must be a number or a list of numbers");
    // As it stands there: as an int another number may come out of it.
    const auto wide = id.get<int64_t>();
    if (wide < 0 || wide >= arch->vocabulary)
      throw user_error("'", path, "': eos_token_id ", id.dump(), " is outside the vocabulary of ",
                       arch->vocabulary, " tokens: a reply could never end with it");
    arch->stop_tokens.push_back(int(wide));
  }
}

// The language model's own part of a multimodal config.json, with what stands beside it.
json text_part(const json& config, const std::string& path) {
  const auto it = config.find("text_config");
  if (it == config.end() || !it->is_object())
    throw user_error("'", path, "': model_type '",
                     field<std::string>(config, path, "model_type", ""),
                     "' has no text_config; copy or download the folder again");
  json text = *it;
  for (const char* name : {"eos_token_id", "tie_word_embeddings", "quantization_config"})
    if (config.contains(name) && !text.contains(name)) text[name] = config[name];
  return text;
}

// What is in force beside Llama's ways, so that a model of theirs keeps its hash; null for none.
json other_flags(const Architecture& arch) {
  Architecture plain;
  plain.attention_scale = 1 / std::sqrt(double(arch.head_dim));
  plain.rotary_dim = arch.head_dim;
  json flags = json::object();
  const auto add = [&](const char* name, const auto& value, const auto& of_llama) {
    if (value != of_llama) flags[name] = value;
  };
  add("norm_place", int(arch.norm_place), int(plain.norm_place));
  add("norm_adds_one", arch.norm_adds_one, false);
  add("norm_rounds_once", arch.norm_rounds_once, false);
  add("qk_norm", int(arch.qk_norm), int(plain.qk_norm));
  add("activation", int(arch.activation), int(plain.activation));
  add("attention_scale", arch.attention_scale, plain.attention_scale);
  add("attention_cap", arch.attention_cap, 0.0);
  add("logit_cap", arch.logit_cap, 0.0);
  add("logit_divisor", arch.logit_divisor, 1.0);
  add("embedding_scale", arch.embedding_scale, 1.0);
  add("residual_scale", arch.residual_scale, 1.0);
  add("rotary_dim", arch.rotary_dim, plain.rotary_dim);
  add("local_rope_theta", arch.local_rope_theta, 0.0);
  add("output_bias", arch.output_bias, false);
  add("mlp_bias", arch.mlp_bias, false);
  json layers = json::array();
  bool alike = true;
  for (const LayerTraits& layer : arch.layer_traits) {
    layers.push_back({layer.window, layer.rotary, layer.local_angles});
    alike = alike && layer == LayerTraits{.window = arch.sliding_window};
  }
  if (!alike) flags["layers"] = layers;
  const RopeScaling& rope = arch.rope;
  if (rope.kind != RopeKind::kDefault && rope.kind != RopeKind::kLlama3)
    flags["rope"] = {int(rope.kind), rope.beta_fast, rope.beta_slow, rope.truncate,
                     rope.magnitude, rope.length,    rope.divisors};
  return flags.empty() ? json() : flags;
}

void read_sizes(const json& config, const std::string& path, const Family& family,
                Architecture* arch) {
  const int64_t layers = required(config, path, "num_hidden_layers");
  if (layers > kMostLayers)
    throw user_error("'", path, "': num_hidden_layers is ", layers, ", more than ", kMostLayers,
                     "; is the file damaged?");
  arch->layers = int(layers);
  arch->hidden = required(config, path, "hidden_size");
  arch->intermediate = required(config, path, "intermediate_size");
  arch->vocabulary = required(config, path, "vocab_size", family.vocabulary);
  arch->heads = required(config, path, "num_attention_heads", family.heads);
  // Null is as many as heads; only a field that is not there is the family's own number.
  arch->kv_heads = field<int64_t>(
      config, path, "num_key_value_heads",
      config.contains("num_key_value_heads") || !family.kv_heads ? arch->heads : family.kv_heads);
  arch->head_dim = field<int64_t>(config, path, "head_dim",
                                  family.head_dim ? family.head_dim : arch->hidden / arch->heads);
  if (arch->kv_heads <= 0 || arch->heads % arch->kv_heads)
    throw user_error("'", path, "': num_attention_heads ", arch->heads,
                     " is not a multiple of num_key_value_heads ", arch->kv_heads);
  if (arch->head_dim <= 0 || arch->head_dim % 2)
    throw user_error("'", path, "': head_dim ", arch->head_dim, " is not a positive even number");
}

}  // namespace

std::string Architecture::shape() const {
  Architecture alone = *this;
  alone.stop_tokens.clear();
  return alone.content_hash() + " " + stops_from;
}

std::string Architecture::content_hash() const {
  json all = json{model_type,
                  layers,
                  hidden,
                  intermediate,
                  vocabulary,
                  heads,
                  kv_heads,
                  head_dim,
                  rms_epsilon,
                  rope_theta,
                  {rope.kind == RopeKind::kLlama3, rope.factor, rope.low_freq_factor,
                   rope.high_freq_factor, rope.original_max_position},
                  tied_embeddings,
                  qkv_bias,
                  max_positions,
                  sliding_window,
                  stop_tokens};
  if (const json others = other_flags(*this); !others.is_null()) all.push_back(others);
  return hash_bytes(all.dump());
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
  // Of this machine: it may be there on others.
  throw node_error(kExitUser, "there is no model folder '", folder, "'; check model.path",
                   hub_id ? ": a model of the Hugging Face Hub is downloaded first (hf download " +
                                folder + " --local-dir FOLDER)"
                          : "");
}

Architecture read_architecture(const std::string& folder, int64_t max_length) {
  check_model_folder(folder);
  const std::string path = folder + "/config.json";
  if (!file_exists(path))
    throw node_error(kExitUser, "'", folder,
                     "' is not a Hugging Face model folder: no config.json; check model.path");
  json config = read_json(path);
  Architecture arch;
  arch.model_type = field<std::string>(config, path, "model_type", "");
  if (arch.model_type == "gemma3") {
    config = text_part(config, path);
    arch.model_type = "gemma3_text";
    arch.multimodal = true;
  }
  const Family& family = family_of(arch.model_type, path);
  refuse_unsupported(config, path, family);
  read_sizes(config, path, family, &arch);
  arch.rms_epsilon = above_zero<double>(config, path, "rms_norm_eps", family.epsilon);
  arch.max_positions = above_zero<int64_t>(config, path, "max_position_embeddings", 0);
  read_rope(config, path, family, max_length, &arch);
  read_flags(config, path, family, &arch);

  const std::string generation = folder + "/generation_config.json";
  if (file_exists(generation)) add_stop_tokens(read_json(generation), generation, &arch);
  arch.stops_from = arch.stop_tokens.empty() ? "config.json" : "generation_config.json";
  if (arch.stop_tokens.empty()) add_stop_tokens(config, path, &arch);
  if (arch.stop_tokens.empty())
    throw user_error("'", path, "': no eos_token_id here or in generation_config.json: a reply ",
                     "could never end");
  return arch;
}

}  // namespace svfleet
