#include "worker/model/family.h"

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "worker/model/config_field.h"

namespace svfleet {
namespace {

using nlohmann::json;

constexpr Family kFamilies[] = {
    {.model_type = "llama", .models = "Llama 2 and 3.x, SmolLM2", .may_have_mlp_bias = true},
    {.model_type = "mistral",
     .models = "Mistral, with its window",
     .windows = Windows::kAll,
     .qkv_bias = QkvBias::kNever,
     .kv_heads = 8,
     .window = 4096},
    {.model_type = "qwen2",
     .models = "Qwen2, Qwen2.5",
     .windows = Windows::kFromLayer,
     .qkv_bias = QkvBias::kAlways,
     .kv_heads = 32,
     .window = 4096},
    {.model_type = "qwen3",
     .models = "Qwen3, dense",
     .qk_norm = QkNorm::kPerHead,
     .windows = Windows::kFromLayer,
     .kv_heads = 32,
     .head_dim = 128,
     .window = 4096},
    {.model_type = "gemma2",
     .models = "Gemma 2",
     .norm_place = NormPlace::kAround,
     .norm_adds_one = true,
     .norm_rounds_once = true,
     .activation_field = "hidden_activation",
     .activation = "gelu_pytorch_tanh",
     .windows = Windows::kOneInTwo,
     .scaled_embedding = true,
     .query_scalar = true,
     .soft_caps = true,
     .logit_cap = true,
     .kv_heads = 4,
     .head_dim = 256,
     .window = 4096,
     .attention_cap = 50,
     .final_cap = 30,
     .tied = true},
    {.model_type = "gemma3_text",
     .models = "Gemma 3, also the text part of its multimodal folders (`gemma3`)",
     .norm_place = NormPlace::kAround,
     .norm_adds_one = true,
     .norm_rounds_once = true,
     .qk_norm = QkNorm::kPerHead,
     .activation_field = "hidden_activation",
     .activation = "gelu_pytorch_tanh",
     .windows = Windows::kFiveInSix,
     .scaled_embedding = true,
     .query_scalar = true,
     .logit_cap = true,
     .local_angles = true,
     .theta = 1e6,
     .heads = 8,
     .kv_heads = 4,
     .head_dim = 256,
     .vocabulary = 262208,
     .window = 4096,
     .tied = true},
    {.model_type = "smollm3",
     .models = "SmolLM3",
     .windows = Windows::kWithoutRope,
     .may_have_mlp_bias = true,
     .layers_without_rope = true,
     .theta = 2e6,
     .kv_heads = 4,
     .tied = true},
    {.model_type = "olmo2",
     .models = "OLMo 2",
     .norm_place = NormPlace::kBehind,
     .norm_rounds_once = true,
     .qk_norm = QkNorm::kWhole,
     .epsilon = 1e-5},
    {.model_type = "granite",
     .models = "Granite 3, dense",
     .may_have_mlp_bias = true,
     .multipliers = true},
    {.model_type = "phi3",
     .models = "Phi-3, Phi-3.5 and Phi-4 mini, Phi-4",
     .windows = Windows::kAll,
     .qkv_bias = QkvBias::kNever,
     .fused = true,
     .partial_rotary = true,
     .epsilon = 1e-5},
};

const json* set_field(const json& config, const char* name) {
  const auto it = config.find(name);
  return it == config.end() || it->is_null() ? nullptr : &*it;
}

double positive_number(const json& config, const std::string& path, const char* name,
                       double fallback) {
  const double value = field<double>(config, path, name, fallback);
  if (set_field(config, name) && !(value > 0))
    throw user_error("'", path, "': ", name, " ", set_field(config, name)->dump(),
                     " must be above 0; take it from the model's first config.json");
  return value;
}

// A soft cap, 0 for none; an explicit null is none, too.
double cap_of(const json& config, const std::string& path, const char* name, double fallback) {
  if (config.contains(name) && !set_field(config, name)) return 0;
  return positive_number(config, path, name, fallback);
}

// Factors that other families apply to activations and logits. In a folder that calls itself one of
// ours they are what its makers meant, unless they change nothing.
void refuse_scalings(const json& config, const std::string& path, const Family& family,
                     const Architecture& arch) {
  const double head_dim = double(arch.head_dim);
  struct Scaling {
    const char* name;
    double neutral;
    bool read;
  };
  const Scaling scalings[] = {{"embedding_multiplier", 1, family.multipliers},
                              {"residual_multiplier", 1, family.multipliers},
                              {"logits_scaling", 1, family.multipliers},
                              {"attention_multiplier", 1 / std::sqrt(head_dim), family.multipliers},
                              {"query_pre_attn_scalar", head_dim, family.query_scalar},
                              {"lm_head_multiplier", 1, false},
                              {"logit_scale", 1, false},
                              {"scale_emb", 1, false}};
  for (const auto& [name, value, read] : scalings)
    if (const double found = read ? value : field<double>(config, path, name, value);
        std::abs(found - value) > 1e-6 * value)
      throw user_error("'", path, "': ", name, " ", found, " is not supported; only ", value,
                       ", which changes nothing, is");
  const std::pair<const char*, bool> caps[] = {{"final_logit_softcapping", family.logit_cap},
                                               {"attn_logit_softcapping", family.soft_caps},
                                               {"clip_qkv", false},
                                               {"no_rope_layers", family.layers_without_rope}};
  for (const auto& [name, read] : caps)
    if (const json* found = read ? nullptr : set_field(config, name))
      throw user_error("'", path, "': ", name, " ", found->dump(), " is not supported ",
                       "for model_type ", family.model_type, "; only null is");
}

// By layer, whether its attention has a window.
std::vector<bool> windowed_layers(const json& config, const std::string& path, const Family& family,
                                  const Architecture& arch) {
  const auto integer = [&](const char* name, int64_t fallback) {
    return int64_t(positive_number(config, path, name, double(fallback)));
  };
  std::vector<bool> windowed(size_t(arch.layers), false);
  const int64_t first = family.windows == Windows::kFromLayer
                            ? field<int64_t>(config, path, "max_window_layers", 28)
                            : 0;
  const int64_t pattern =
      family.windows == Windows::kFiveInSix ? integer("sliding_window_pattern", 6) : 2;
  for (int i = 0; i < arch.layers; ++i) switch (family.windows) {
      case Windows::kNone:
        break;
      case Windows::kAll:
        windowed[size_t(i)] = true;
        break;
      case Windows::kFromLayer:
        windowed[size_t(i)] = i >= first;
        break;
      case Windows::kWithoutRope:
        windowed[size_t(i)] = !arch.layer_traits[size_t(i)].rotary;
        break;
      case Windows::kOneInTwo:
      case Windows::kFiveInSix:
        windowed[size_t(i)] = (i + 1) % pattern != 0;
        break;
    }
  const auto types = field<std::vector<std::string>>(config, path, "layer_types", {});
  if (types.empty()) return windowed;
  if (int64_t(types.size()) != arch.layers)
    throw user_error("'", path, "': layer_types has ", types.size(), " entries for ", arch.layers,
                     " layers; take it from the model's first config.json");
  std::vector<bool> named;
  for (const std::string& type : types) named.push_back(type == "sliding_attention");
  if (family.windows == Windows::kAll && arch.sliding_window && named != windowed)
    throw user_error("'", path, "': layer_types gives some layers no window, which model_type ",
                     family.model_type, " has no place for; it needs another model_type");
  return family.windows == Windows::kAll ? windowed : named;
}

void read_windows(const json& config, const std::string& path, const Family& family,
                  Architecture* arch) {
  const bool on_request =
      family.windows == Windows::kFromLayer || family.windows == Windows::kWithoutRope;
  // Qwen and SmolLM3 write a window that they do not use unless use_sliding_window is set.
  if (!on_request || field<bool>(config, path, "use_sliding_window", false))
    arch->sliding_window =
        config.contains("sliding_window") && !set_field(config, "sliding_window")
            ? 0
            : int64_t(positive_number(config, path, "sliding_window", double(family.window)));
  const std::vector<bool> windowed = windowed_layers(config, path, family, *arch);
  const bool any = std::find(windowed.begin(), windowed.end(), true) != windowed.end();
  if (family.windows == Windows::kNone && any)
    throw user_error("'", path, "': layer_types has sliding_attention, which model_type ",
                     family.model_type, " does not have; it needs another model_type");
  if (any && !arch->sliding_window && set_field(config, "layer_types") &&
      family.windows != Windows::kAll)
    throw user_error("'", path, "': layer_types has sliding_attention, but there is no window: ",
                     "sliding_window is missing or not in use");
  for (int i = 0; i < arch->layers; ++i) {
    LayerTraits& layer = arch->layer_traits[size_t(i)];
    if (windowed[size_t(i)]) layer.window = arch->sliding_window;
    layer.local_angles = family.local_angles && windowed[size_t(i)];
  }
  if (family.windows != Windows::kNone || !arch->sliding_window) return;
  // Such a model is computed without a window by transformers; what its makers meant is the same
  // only up to here.
  if (!arch->longest || arch->longest > arch->sliding_window) arch->longest = arch->sliding_window;
}

void read_layers_without_rope(const json& config, const std::string& path, Architecture* arch) {
  const auto rotary = field<std::vector<int64_t>>(config, path, "no_rope_layers", {});
  const int64_t interval = field<int64_t>(config, path, "no_rope_layer_interval", 4);
  if (!rotary.empty() && int64_t(rotary.size()) != arch->layers)
    throw user_error("'", path, "': no_rope_layers has ", rotary.size(), " entries for ",
                     arch->layers, " layers; take it from the model's first config.json");
  if (interval <= 0)
    throw user_error("'", path, "': no_rope_layer_interval ", interval, " must be above 0");
  // A 1 is a layer with rotary positions, whatever the field's name says.
  for (int i = 0; i < arch->layers; ++i)
    arch->layer_traits[size_t(i)].rotary =
        rotary.empty() ? (i + 1) % interval != 0 : rotary[size_t(i)] != 0;
}

void read_biases(const json& config, const std::string& path, const Family& family,
                 Architecture* arch) {
  const bool attention = field<bool>(config, path, "attention_bias", false);
  if (attention && family.qkv_bias != QkvBias::kByField)
    throw user_error("'", path, "': attention_bias: true is not supported for model_type ",
                     family.model_type);
  arch->qkv_bias = attention || family.qkv_bias == QkvBias::kAlways;
  arch->output_bias = attention;
  arch->mlp_bias = field<bool>(config, path, "mlp_bias", false);
  if (arch->mlp_bias && !family.may_have_mlp_bias)
    throw user_error("'", path, "': mlp_bias: true is not supported for model_type ",
                     family.model_type);
}

void check_activation(const json& config, const std::string& path, const Family& family) {
  for (const char* name : {"hidden_act", family.activation_field}) {
    const std::string found = field<std::string>(config, path, name, family.activation);
    if (found != family.activation)
      throw user_error("'", path, "': ", name, " '", found, "' is not supported; only ",
                       family.activation, " is for model_type ", family.model_type);
  }
}

}  // namespace

std::span<const Family> families() {
  return kFamilies;
}

const Family& family_of(const std::string& model_type, const std::string& path) {
  std::string all;
  for (const Family& family : kFamilies) {
    if (model_type == family.model_type) return family;
    all += (all.empty() ? "" : ", ") + std::string(family.model_type);
  }
  const bool experts = model_type.find("moe") != std::string::npos || model_type == "mixtral";
  throw user_error("'", path, "': model_type '", model_type, "' is not supported; supported are ",
                   all,
                   experts ? ". A mixture of experts needs a router and products of each token "
                             "with its own experts' matrices, which are not here"
                           : "");
}

void refuse_unsupported(const json& config, const std::string& path, const Family& family) {
  for (const char* name : {"quantization_config", "compression_config"})
    if (set_field(config, name))
      throw user_error("'", path, "': quantised weights (", name,
                       ") are not supported; use the model's float folder");
  for (const char* name :
       {"num_local_experts", "num_experts", "n_routed_experts", "moe_intermediate_size"})
    if (set_field(config, name))
      throw user_error("'", path, "': mixture-of-experts models (", name, ") are not supported: ",
                       "there is no router, and no product of each token with its own experts' ",
                       "matrices");
  if (!field<bool>(config, path, "is_causal", true) ||
      field<bool>(config, path, "use_bidirectional_attention", false))
    throw user_error("'", path, "': ",
                     field<bool>(config, path, "is_causal", true)
                         ? "use_bidirectional_attention: true"
                         : "is_causal: false",
                     " is not supported: each token would see those behind it");
  for (const std::string& type : field<std::vector<std::string>>(config, path, "layer_types", {}))
    if (type != "full_attention" && type != "sliding_attention")
      throw user_error("'", path, "': a layer of type '", type, "' (layer_types) is not ",
                       "supported; only full_attention and sliding_attention are");
  check_activation(config, path, family);
}

void read_flags(const json& config, const std::string& path, const Family& family,
                Architecture* arch) {
  refuse_scalings(config, path, family, *arch);
  arch->norm_place = family.norm_place;
  arch->norm_adds_one = family.norm_adds_one;
  arch->norm_rounds_once = family.norm_rounds_once;
  arch->qk_norm = family.qk_norm;
  arch->activation =
      std::string_view(family.activation) == "silu" ? Activation::kSilu : Activation::kGeluTanh;
  arch->fused = family.fused;
  const double head_dim = double(arch->head_dim);
  arch->attention_scale = 1 / std::sqrt(head_dim);
  if (family.query_scalar)
    arch->attention_scale =
        1 / std::sqrt(positive_number(config, path, "query_pre_attn_scalar", 256));
  if (family.soft_caps)
    arch->attention_cap = cap_of(config, path, "attn_logit_softcapping", family.attention_cap);
  if (family.logit_cap)
    arch->logit_cap = cap_of(config, path, "final_logit_softcapping", family.final_cap);
  if (family.scaled_embedding) {
    arch->embedding_scale = std::sqrt(double(arch->hidden));
    arch->embedding_scale_rounded = true;
  }
  if (family.multipliers) {
    arch->attention_scale = positive_number(config, path, "attention_multiplier", 1.0);
    arch->embedding_scale = positive_number(config, path, "embedding_multiplier", 1.0);
    arch->residual_scale = positive_number(config, path, "residual_multiplier", 1.0);
    arch->logit_divisor = positive_number(config, path, "logits_scaling", 1.0);
  }
  arch->tied_embeddings = field<bool>(config, path, "tie_word_embeddings", family.tied);
  read_biases(config, path, family, arch);
  arch->layer_traits.assign(size_t(arch->layers), {});
  if (family.layers_without_rope) read_layers_without_rope(config, path, arch);
  read_windows(config, path, family, arch);
}

std::vector<std::pair<std::string, bool>> flags_of(const Architecture& arch) {
  const auto any = [&](auto of) {
    return std::any_of(arch.layer_traits.begin(), arch.layer_traits.end(), of);
  };
  return {{"norm behind", arch.has_norm_behind()},
          {"no norm before", !arch.has_norm_before()},
          {"norm 1 + w", arch.norm_adds_one},
          {"norm rounds once", arch.norm_rounds_once},
          {"qk-norm per head", arch.qk_norm == QkNorm::kPerHead},
          {"qk-norm whole", arch.qk_norm == QkNorm::kWhole},
          {"gelu_tanh", arch.activation == Activation::kGeluTanh},
          {"attention scale", arch.attention_scale != 1 / std::sqrt(double(arch.head_dim))},
          {"soft cap of scores", arch.attention_cap > 0},
          {"soft cap of logits", arch.logit_cap > 0},
          {"scaled rope", arch.rope.kind != RopeKind::kDefault},
          {"local rope base", arch.local_rope_theta > 0},
          {"layers without rope", any([](const LayerTraits& l) { return !l.rotary; })},
          {"partial rotary", arch.rotary_dim < arch.head_dim},
          {"window", any([](const LayerTraits& l) { return l.window > 0; })},
          {"fused tensors", arch.fused},
          {"embedding scale", arch.embedding_scale != 1},
          {"logit scale", arch.logit_divisor != 1},
          {"residual scale", arch.residual_scale != 1},
          {"biases", arch.qkv_bias || arch.mlp_bias},
          {"tied head", arch.tied_embeddings}};
}

}  // namespace svfleet
