// One table of the families of models: what each one's code does whatever config.json says, and
// what config.json may say beside it. The decoder knows no family; it reads Architecture's flags.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "worker/model/architecture.h"

namespace svfleet {

// Which layers have a window where config.json has no layer_types.
enum class Windows {
  kNone,         // sliding_window is not read
  kAll,          // every layer
  kFromLayer,    // from max_window_layers on, with use_sliding_window (Qwen)
  kWithoutRope,  // those without rotary positions, with use_sliding_window (SmolLM3)
  kOneInTwo,     // the first of two (Gemma 2)
  kFiveInSix,    // all but the last of sliding_window_pattern, 6 (Gemma 3)
};

enum class QkvBias { kNever, kAlways, kByField };  // kByField: attention_bias, of o as well

struct Family {
  const char* model_type;
  const char* models;  // for people
  NormPlace norm_place = NormPlace::kBefore;
  bool norm_adds_one = false, norm_rounds_once = false;
  QkNorm qk_norm = QkNorm::kNone;
  const char* activation_field = "hidden_act";
  const char* activation = "silu";  // the only one
  Windows windows = Windows::kNone;
  QkvBias qkv_bias = QkvBias::kByField;
  bool may_have_mlp_bias = false;
  bool scaled_embedding = false;     // by sqrt(hidden), rounded to the model's type
  bool query_scalar = false;         // query_pre_attn_scalar ^ -1/2 scales attention
  bool soft_caps = false;            // attn_logit_softcapping is read
  bool logit_cap = false;            // final_logit_softcapping is read
  bool multipliers = false;          // Granite's four are read
  bool local_angles = false;         // layers with a window turn by rope_local_base_freq
  bool layers_without_rope = false;  // no_rope_layers is read
  bool fused = false;
  bool partial_rotary = false;
  // What transformers takes where config.json has no such field; 0: the field must be there, or
  // follows from others.
  double epsilon = 1e-6, theta = 10000;
  int64_t heads = 0, kv_heads = 0, head_dim = 0, vocabulary = 0, window = 0;
  double attention_cap = 0, final_cap = 0;
  bool tied = false;
};

std::span<const Family> families();
// Error(kExitUser) for one that is none of them.
const Family& family_of(const std::string& model_type, const std::string& path);

// Sets the flags that the family and config.json make; sizes and rope are there already.
// Error(kExitUser) for a field that would change what the model computes and is not supported.
void read_flags(const nlohmann::json& config, const std::string& path, const Family& family,
                Architecture* arch);
// Error(kExitUser) for what no family here has: experts, quantised weights, and so on.
void refuse_unsupported(const nlohmann::json& config, const std::string& path,
                        const Family& family);

// What is known about a family by flag, to print: "norm behind", "window", and so on, each with
// whether this architecture has it.
std::vector<std::pair<std::string, bool>> flags_of(const Architecture& arch);

}  // namespace svfleet
