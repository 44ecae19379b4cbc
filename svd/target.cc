#include "svd/target.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "comm/error.h"

namespace svfleet {

const char* form_name(Form form) {
  return form == Form::kRight ? "right" : "left";
}

const std::vector<std::string>& linear_kinds() {
  static const std::vector<std::string> kinds = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                 "gate_proj", "up_proj", "down_proj"};
  return kinds;
}

std::string weight_name(int layer, const std::string& kind) {
  bool attention = kind == "q_proj" || kind == "k_proj" || kind == "v_proj" || kind == "o_proj";
  return "model.layers." + std::to_string(layer) + (attention ? ".self_attn." : ".mlp.") + kind +
         ".weight";
}

namespace {

std::set<std::string> choose_kinds(const std::vector<std::string>& patterns) {
  std::set<std::string> chosen;
  for (const std::string& pattern : patterns) {
    if (pattern == "mlp" || pattern == "all") chosen.insert({"gate_proj", "up_proj", "down_proj"});
    if (pattern == "attention" || pattern == "all")
      chosen.insert({"q_proj", "k_proj", "v_proj", "o_proj"});
    if (pattern == "mlp" || pattern == "attention" || pattern == "all") continue;
    const auto& kinds = linear_kinds();
    if (std::find(kinds.begin(), kinds.end(), pattern) == kinds.end())
      throw user_error("svd.targets: unknown target '", pattern,
                       "'; choose mlp, attention, all, or one of q_proj, k_proj, v_proj, o_proj, "
                       "gate_proj, up_proj, down_proj");
    chosen.insert(pattern);
  }
  return chosen;
}

int parse_layer(const std::string& text, const std::string& all) {
  int value = -1;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0)
    throw user_error("svd.layers: cannot read '", text, "' in '", all,
                     "'; write all, or ranges such as 0..11,40..79");
  return value;
}

std::set<int> choose_layers(const std::string& layers, int layer_count) {
  std::set<int> chosen;
  if (layers == "all") {
    for (int i = 0; i < layer_count; ++i) chosen.insert(i);
    return chosen;
  }
  for (size_t start = 0; start <= layers.size();) {
    size_t comma = std::min(layers.find(',', start), layers.size());
    std::string part = layers.substr(start, comma - start);
    size_t dots = part.find("..");
    int first = parse_layer(part.substr(0, dots), layers);
    int last = dots == std::string::npos ? first : parse_layer(part.substr(dots + 2), layers);
    if (last >= layer_count || first > last)
      throw user_error("svd.layers: '", part, "' is outside this model's layers 0..",
                       layer_count - 1);
    for (int i = first; i <= last; ++i) chosen.insert(i);
    start = comma + 1;
  }
  return chosen;
}

Form smaller_side(const std::string& kind, int64_t rows, int64_t cols) {
  if (rows == cols) return kind == "o_proj" ? Form::kLeft : Form::kRight;
  return cols < rows ? Form::kRight : Form::kLeft;
}

}  // namespace

Target on_smaller_side(Target target) {
  target.form = smaller_side(target.kind, target.rows, target.cols);
  return target;
}

Target on_sharded_side(Target target) {
  // Small ones are merged whole on every rank; square ones are cut by rows as q is.
  if (target.kind == "k_proj" || target.kind == "v_proj") return on_smaller_side(target);
  const bool cut_by_columns = target.kind == "o_proj" || target.kind == "down_proj";
  target.form = cut_by_columns ? Form::kLeft : Form::kRight;
  return target;
}

std::vector<Target> choose_targets(const std::vector<std::string>& patterns,
                                   const std::string& layers, int layer_count,
                                   const std::vector<MatrixShape>& shapes) {
  std::set<std::string> kinds = choose_kinds(patterns);
  std::vector<Target> targets;
  int64_t offset = 0;
  for (int layer : choose_layers(layers, layer_count)) {
    for (const MatrixShape& shape : shapes) {
      if (!kinds.count(shape.kind)) continue;
      const Target target = on_sharded_side({.name = weight_name(layer, shape.kind),
                                             .kind = shape.kind,
                                             .layer = layer,
                                             .rows = shape.rows,
                                             .cols = shape.cols,
                                             .form = Form::kRight,
                                             .offset = offset});
      offset += target.length();
      targets.push_back(target);
    }
  }
  if (targets.empty()) throw user_error("svd.targets: no matrix chosen; try targets: [mlp]");
  return targets;
}

int64_t total_length(const std::vector<Target>& targets) {
  return targets.empty() ? 0 : targets.back().offset + targets.back().length();
}

}  // namespace svfleet
