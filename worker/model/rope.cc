#include "worker/model/rope.h"

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "worker/model/config_field.h"

namespace svfleet {
namespace {

using nlohmann::json;

// rope_scaling or rope_parameters: an object that says something, or null.
const json* rope_object(const json& config, const std::string& path, const char* name) {
  const auto it = config.find(name);
  if (it == config.end() || it->is_null()) return nullptr;
  if (!it->is_object())
    throw user_error("'", path, "': ", name, " must be an object, got ", it->dump());
  for (const auto& [key, value] : it->items())
    if (value.is_object())
      throw user_error("'", path, "': ", name, " with settings for kinds of layers ('", key,
                       "') is not supported");
  return it->empty() ? nullptr : &*it;
}

std::string rope_type(const json& rope, const std::string& path, const char* name) {
  const std::string old_word = field<std::string>(rope, path, "type", "");
  const std::string type = field<std::string>(rope, path, "rope_type", old_word);
  if (!old_word.empty() && old_word != type)
    throw user_error("'", path, "': ", name, " has both rope_type '", type, "' and type '",
                     old_word, "'; remove one");
  if (type.empty() && rope.contains("factor"))
    throw user_error("'", path, "': ", name, " has a factor, but no rope_type that says what it ",
                     "scales; add it, as in the model's first config.json");
  if (!type.empty() && type != "default" && type != "llama3")
    throw user_error("'", path, "': ", name, " of type '", type,
                     "' is not supported; only llama3 and default are");
  return type.empty() ? "default" : type;
}

double number_above_zero(const json& rope, const std::string& path, const std::string& name,
                         const char* key) {
  const double value = field<double>(rope, path, key, 0);
  if (!(value > 0))
    throw user_error("'", path, "': ", name, " of type llama3 has no ", key,
                     " above 0; take it from the model's first config.json");
  return value;
}

RopeScaling llama3_scaling(const json& config, const json& rope, const std::string& path,
                           const char* name) {
  RopeScaling scaling;
  scaling.llama3 = true;
  scaling.factor = number_above_zero(rope, path, name, "factor");
  scaling.low_freq_factor = number_above_zero(rope, path, name, "low_freq_factor");
  scaling.high_freq_factor = number_above_zero(rope, path, name, "high_freq_factor");
  constexpr const char* kOriginal = "original_max_position_embeddings";
  scaling.original_max_position = int64_t(number_above_zero(rope, path, name, kOriginal));
  if (!(scaling.high_freq_factor > scaling.low_freq_factor))
    throw user_error("'", path, "': ", name, ": high_freq_factor ", scaling.high_freq_factor,
                     " must be above low_freq_factor ", scaling.low_freq_factor);
  // transformers 5 prefers the one beside it.
  if (field<int64_t>(config, path, kOriginal, scaling.original_max_position) !=
      scaling.original_max_position)
    throw user_error("'", path, "': ", kOriginal, " differs from that in ", name,
                     "; remove the wrong one");
  return scaling;
}

void refuse_partial(const json& from, const std::string& path) {
  const double part = field<double>(from, path, "partial_rotary_factor", 1);
  if (part != 1)
    throw user_error("'", path, "': partial_rotary_factor ", part, " is not supported; only 1 is");
}

}  // namespace

void read_rope(const json& config, const std::string& path, Architecture* arch) {
  const json* old_style = rope_object(config, path, "rope_scaling");
  const json* new_style = rope_object(config, path, "rope_parameters");
  for (const json* from : {&config, old_style, new_style})
    if (from) refuse_partial(*from, path);

  // Transformers 4 knows only rope_scaling, and 5 prefers it where both are filled.
  const json* rope = old_style ? old_style : new_style;
  const char* name = old_style ? "rope_scaling" : "rope_parameters";
  if (rope && rope_type(*rope, path, name) == "llama3")
    arch->rope = llama3_scaling(config, *rope, path, name);
  if (old_style && new_style && rope_type(*new_style, path, "rope_parameters") == "llama3") {
    const RopeScaling other = llama3_scaling(config, *new_style, path, "rope_parameters");
    if (!(other == arch->rope))
      throw user_error("'", path, "': rope_parameters and rope_scaling differ; remove the wrong ",
                       "one");
  }

  constexpr double kDefaultTheta = 10000;
  arch->rope_theta = field<double>(config, path, "rope_theta", kDefaultTheta);
  if (rope) arch->rope_theta = field<double>(*rope, path, "rope_theta", arch->rope_theta);
  if (!(arch->rope_theta > 0))
    throw user_error("'", path, "': rope_theta ", arch->rope_theta, " must be above 0");
  for (const json* from : {&config, old_style, new_style})
    if (from && field<double>(*from, path, "rope_theta", arch->rope_theta) != arch->rope_theta)
      throw user_error("'", path, "': rope_theta is ", arch->rope_theta, " for ", name, " and ",
                       field<double>(*from, path, "rope_theta", 0),
                       " in another place; remove the wrong one");
}

std::vector<double> rope_frequencies(const Architecture& arch) {
  const double pi = 3.14159265358979323846;
  std::vector<double> frequencies(arch.head_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double f = 1 / std::pow(arch.rope_theta, 2.0 * double(i) / double(arch.head_dim));
    if (arch.rope.llama3) {
      const RopeScaling& s = arch.rope;
      double turns = double(s.original_max_position) * f / (2 * pi);
      double keep = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
      keep = std::min(1.0, std::max(0.0, keep));
      f = f / s.factor * (1 - keep) + f * keep;
    }
    frequencies[i] = f;
  }
  return frequencies;
}

}  // namespace svfleet
