#include "worker/model/rope.h"

#include <algorithm>
#include <cmath>

#include "comm/error.h"
#include "worker/model/config_field.h"

namespace svfleet {
namespace {

using nlohmann::json;

constexpr const char* kOriginal = "original_max_position_embeddings";
constexpr double kTwoPi = 2 * 3.14159265358979323846;

// rope_scaling or rope_parameters: an object that says something, or null. Where the family's
// layers turn by two bases, transformers 5 has an object for each kind of layer.
const json* rope_object(const json& config, const std::string& path, const char* name,
                        const char* kind_of_layer) {
  const auto it = config.find(name);
  if (it == config.end() || it->is_null()) return nullptr;
  if (!it->is_object())
    throw user_error("'", path, "': ", name, " must be an object, got ", it->dump());
  const json* rope = &*it;
  if (kind_of_layer && (it->contains("full_attention") || it->contains("sliding_attention"))) {
    if (!it->contains(kind_of_layer)) return nullptr;
    rope = &it->at(kind_of_layer);
  }
  for (const auto& [key, value] : rope->items())
    if (value.is_object())
      throw user_error("'", path, "': ", name, " with settings for kinds of layers ('", key,
                       "') is not supported");
  return rope->empty() ? nullptr : rope;
}

struct KindName {
  const char* name;
  RopeKind kind;
};
constexpr KindName kKinds[] = {{"default", RopeKind::kDefault}, {"linear", RopeKind::kLinear},
                               {"dynamic", RopeKind::kDynamic}, {"yarn", RopeKind::kYarn},
                               {"llama3", RopeKind::kLlama3},   {"longrope", RopeKind::kLongRope}};

const char* name_of(RopeKind kind) {
  for (const KindName& one : kKinds)
    if (one.kind == kind) return one.name;
  return "";
}

RopeKind kind_of(const json& rope, const std::string& path, const char* name,
                 const Family& family) {
  const std::string old_word = field<std::string>(rope, path, "type", "");
  std::string type = field<std::string>(rope, path, "rope_type", old_word);
  if (!old_word.empty() && old_word != type)
    throw user_error("'", path, "': ", name, " has both rope_type '", type, "' and type '",
                     old_word, "'; remove one");
  if (type.empty() && rope.contains("factor"))
    throw user_error("'", path, "': ", name, " has a factor, but no rope_type that says what it ",
                     "scales; add it, as in the model's first config.json");
  // What Phi-3's first folders called it.
  if (family.partial_rotary && (type == "su" || type == "yarn")) type = "longrope";
  if (type.empty()) return RopeKind::kDefault;
  for (const KindName& one : kKinds)
    if (type == one.name) return one.kind;
  throw user_error("'", path, "': ", name, " of type '", type,
                   "' is not supported; only default, linear, dynamic, yarn, llama3 and longrope ",
                   "are");
}

// One of config.json's two objects, read.
class Reader {
 public:
  Reader(const json& config, const json& rope, const std::string& path, const char* name,
         const Architecture& arch, int64_t max_length)
      : config_(config), rope_(rope), path_(path), name_(name), arch_(arch), length_(max_length) {}

  RopeScaling read(RopeKind kind) const {
    RopeScaling scaling;
    scaling.kind = kind;
    switch (kind) {
      case RopeKind::kDefault:
        break;
      case RopeKind::kLinear:
        scaling.factor = number(kind, "factor");
        break;
      case RopeKind::kDynamic:
        scaling.factor = number(kind, "factor");
        if (!arch_.max_positions)
          throw user_error("'", path_, "': ", name_, " of type dynamic needs ",
                           "max_position_embeddings; take it from the model's first config.json");
        scaling.length = std::max(arch_.max_positions, length_);
        break;
      case RopeKind::kYarn:
        read_yarn(&scaling);
        break;
      case RopeKind::kLlama3:
        read_llama3(&scaling);
        break;
      case RopeKind::kLongRope:
        read_longrope(&scaling);
        break;
    }
    return scaling;
  }

 private:
  double number(RopeKind kind, const char* key) const {
    const double value = field<double>(rope_, path_, key, 0);
    if (!(value > 0))
      throw user_error("'", path_, "': ", name_, " of type ", name_of(kind), " has no ", key,
                       " above 0; take it from the model's first config.json");
    return value;
  }
  double number_or(RopeKind kind, const char* key, double fallback) const {
    const auto it = rope_.find(key);
    return it == rope_.end() || it->is_null() ? fallback : number(kind, key);
  }

  void read_llama3(RopeScaling* scaling) const {
    scaling->factor = number(scaling->kind, "factor");
    scaling->low_freq_factor = number(scaling->kind, "low_freq_factor");
    scaling->high_freq_factor = number(scaling->kind, "high_freq_factor");
    scaling->original_max_position = int64_t(number(scaling->kind, kOriginal));
    if (!(scaling->high_freq_factor > scaling->low_freq_factor))
      throw user_error("'", path_, "': ", name_, ": high_freq_factor ", scaling->high_freq_factor,
                       " must be above low_freq_factor ", scaling->low_freq_factor);
    // transformers 5 prefers the one beside it.
    if (field<int64_t>(config_, path_, kOriginal, scaling->original_max_position) !=
        scaling->original_max_position)
      throw user_error("'", path_, "': ", kOriginal, " differs from that in ", name_,
                       "; remove the wrong one");
  }

  void read_yarn(RopeScaling* scaling) const {
    const RopeKind kind = scaling->kind;
    scaling->factor = number(kind, "factor");
    scaling->original_max_position =
        int64_t(number_or(kind, kOriginal, double(arch_.max_positions)));
    if (scaling->original_max_position <= 0)
      throw user_error("'", path_, "': ", name_, " of type yarn needs ", kOriginal,
                       "; take it from the model's first config.json");
    scaling->beta_fast = number_or(kind, "beta_fast", 32);
    scaling->beta_slow = number_or(kind, "beta_slow", 1);
    scaling->truncate = field<bool>(rope_, path_, "truncate", true);
    const double m = field<double>(rope_, path_, "mscale", 0),
                 all = field<double>(rope_, path_, "mscale_all_dim", 0);
    const auto magnitude = [&](double by) {
      return scaling->factor <= 1 ? 1 : 0.1 * by * std::log(scaling->factor) + 1;
    };
    scaling->magnitude =
        number_or(kind, "attention_factor",
                  m != 0 && all != 0 ? magnitude(m) / magnitude(all) : magnitude(1));
  }

  void read_longrope(RopeScaling* scaling) const {
    const RopeKind kind = scaling->kind;
    const int64_t beside = field<int64_t>(config_, path_, kOriginal, 0);
    scaling->original_max_position =
        beside > 0 ? beside : int64_t(number_or(kind, kOriginal, double(arch_.max_positions)));
    if (scaling->original_max_position <= 1)
      throw user_error("'", path_, "': ", name_, " of type longrope needs ", kOriginal,
                       "; take it from the model's first config.json");
    const double original = double(scaling->original_max_position);
    // Phi-3 has no factor: it is how much longer the context has become.
    scaling->factor = beside > 0 || !rope_.contains("factor")
                          ? double(arch_.max_positions) / original
                          : number(kind, "factor");
    scaling->magnitude = number_or(
        kind, "attention_factor",
        scaling->factor <= 1 ? 1 : std::sqrt(1 + std::log(scaling->factor) / std::log(original)));
    const bool is_long = length_ > scaling->original_max_position;
    for (const char* key : {"short_factor", "long_factor"}) {
      const auto divisors = field<std::vector<double>>(rope_, path_, key, {});
      if (int64_t(divisors.size()) != arch_.rotary_dim / 2 ||
          std::any_of(divisors.begin(), divisors.end(), [](double d) { return !(d > 0); }))
        throw user_error("'", path_, "': ", name_, ": ", key, " must be ", arch_.rotary_dim / 2,
                         " numbers above 0, half of what turns in a head; take it from the ",
                         "model's first config.json");
      if (is_long == (key[0] == 'l')) scaling->divisors = divisors;
    }
  }

  const json &config_, &rope_;
  const std::string& path_;
  const char* const name_;
  const Architecture& arch_;
  const int64_t length_;
};

void read_rotary_dim(const json& from, const std::string& path, const Family& family,
                     Architecture* arch) {
  const double part = field<double>(from, path, "partial_rotary_factor", 1);
  if (part == 1) return;
  if (!family.partial_rotary)
    throw user_error("'", path, "': partial_rotary_factor ", part, " is not supported for ",
                     "model_type ", family.model_type, "; only 1 is");
  const int64_t turned = int64_t(double(arch->head_dim) * part);
  if (!(part > 0 && part < 1) || turned % 2 || turned == 0)
    throw user_error("'", path, "': partial_rotary_factor ", part, " of head_dim ", arch->head_dim,
                     " is not a positive even number");
  arch->rotary_dim = turned;
}

void read_local_theta(const json& config, const std::string& path, const Family& family,
                      Architecture* arch) {
  constexpr double kDefaultLocal = 10000;
  arch->local_rope_theta = field<double>(config, path, "rope_local_base_freq", kDefaultLocal);
  const json* local = rope_object(config, path, "rope_parameters", "sliding_attention");
  const bool own = local && config["rope_parameters"].contains("sliding_attention");
  if (own) {
    if (kind_of(*local, path, "rope_parameters", family) != RopeKind::kDefault)
      throw user_error("'", path, "': rope_parameters scales layers with a window, which is not ",
                       "supported; only default is there");
    arch->local_rope_theta = field<double>(*local, path, "rope_theta", arch->local_rope_theta);
  }
  if (!(arch->local_rope_theta > 0))
    throw user_error("'", path, "': rope_local_base_freq ", arch->local_rope_theta,
                     " must be above 0");
}

// The tokens that may be computed: what max_length asks for, or what the scaling's numbers are for.
int64_t longest_of(const std::string& path, const Architecture& arch, int64_t max_length) {
  const bool stretches = arch.rope.kind == RopeKind::kDynamic;
  const int64_t most = stretches ? arch.rope.length : arch.max_positions;
  if (max_length && most && max_length > most)
    throw user_error("'", path, "': max_position_embeddings is ", most,
                     ", but model.max_length asks for ", max_length, "; lower it");
  if (max_length) return max_length;
  return arch.rope.kind == RopeKind::kLongRope ? arch.rope.original_max_position
         : stretches                           ? arch.max_positions
                                               : most;
}

double unscaled(double theta, size_t i, int64_t dim) {
  return 1 / std::pow(theta, 2.0 * double(i) / double(dim));
}

// The share of each frequency that YaRN keeps.
class YarnRamp {
 public:
  YarnRamp(const RopeScaling& s, double theta, int64_t dim) {
    // The dimension that makes so many turns over the original context.
    const auto dimension = [&](double turns) {
      return double(dim) * std::log(double(s.original_max_position) / (turns * kTwoPi)) /
             (2 * std::log(theta));
    };
    const double low = dimension(s.beta_fast), high = dimension(s.beta_slow);
    low_ = std::max(s.truncate ? std::floor(low) : low, 0.0);
    high_ = std::min(s.truncate ? std::ceil(high) : high, double(dim - 1));
    if (low_ == high_) high_ += 0.001;
  }
  double kept(size_t i) const {
    return 1 - std::clamp((double(i) - low_) / (high_ - low_), 0.0, 1.0);
  }

 private:
  double low_, high_;
};

}  // namespace

void read_rope(const json& config, const std::string& path, const Family& family,
               int64_t max_length, Architecture* arch) {
  const char* const layers = family.local_angles ? "full_attention" : nullptr;
  const json* old_style = rope_object(config, path, "rope_scaling", layers);
  const json* new_style = rope_object(config, path, "rope_parameters", layers);
  arch->rotary_dim = arch->head_dim;
  for (const json* from : {&config, old_style, new_style})
    if (from) read_rotary_dim(*from, path, family, arch);

  // Transformers 4 knows only rope_scaling, and 5 prefers it where both are filled.
  const json* rope = old_style ? old_style : new_style;
  const char* name = old_style ? "rope_scaling" : "rope_parameters";
  const auto scaling = [&](const json& of, const char* place) {
    return Reader(config, of, path, place, *arch, max_length)
        .read(kind_of(of, path, place, family));
  };
  if (rope) arch->rope = scaling(*rope, name);
  if (old_style && new_style &&
      kind_of(*new_style, path, "rope_parameters", family) != RopeKind::kDefault &&
      !(scaling(*new_style, "rope_parameters") == arch->rope))
    throw user_error("'", path, "': rope_parameters and rope_scaling differ; remove the wrong ",
                     "one");

  arch->rope_theta = field<double>(config, path, "rope_theta", family.theta);
  if (rope) arch->rope_theta = field<double>(*rope, path, "rope_theta", arch->rope_theta);
  if (!(arch->rope_theta > 0))
    throw user_error("'", path, "': rope_theta ", arch->rope_theta, " must be above 0");
  for (const json* from : {&config, old_style, new_style})
    if (from && field<double>(*from, path, "rope_theta", arch->rope_theta) != arch->rope_theta)
      throw user_error("'", path, "': rope_theta is ", arch->rope_theta, " for ", name, " and ",
                       field<double>(*from, path, "rope_theta", 0),
                       " in another place; remove the wrong one");
  if (family.local_angles) read_local_theta(config, path, family, arch);
  arch->longest = longest_of(path, *arch, max_length);
}

std::vector<double> rope_frequencies(const Architecture& arch) {
  const RopeScaling& s = arch.rope;
  const int64_t dim = arch.rotary_dim;
  double theta = arch.rope_theta;
  if (s.kind == RopeKind::kDynamic) {
    const double stretch = s.factor * double(s.length) / double(arch.max_positions) - s.factor + 1;
    theta *= std::pow(stretch, double(dim) / double(dim - 2));
  }
  const YarnRamp yarn(s, theta, dim);
  std::vector<double> frequencies(size_t(dim) / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double f = unscaled(theta, i, dim);
    if (s.kind == RopeKind::kLinear) f /= s.factor;
    if (s.kind == RopeKind::kYarn) f = f / s.factor * (1 - yarn.kept(i)) + f * yarn.kept(i);
    if (s.kind == RopeKind::kLongRope) f /= s.divisors[i];
    if (s.kind == RopeKind::kLlama3) {
      double turns = double(s.original_max_position) * f / kTwoPi;
      double keep = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
      keep = std::min(1.0, std::max(0.0, keep));
      f = f / s.factor * (1 - keep) + f * keep;
    }
    frequencies[i] = f;
  }
  return frequencies;
}

std::vector<double> local_rope_frequencies(const Architecture& arch) {
  if (!(arch.local_rope_theta > 0)) return {};
  std::vector<double> frequencies(size_t(arch.rotary_dim) / 2);
  for (size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] = unscaled(arch.local_rope_theta, i, arch.rotary_dim);
  return frequencies;
}

}  // namespace svfleet
