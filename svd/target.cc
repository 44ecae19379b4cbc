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

Form choose_form(const std::string& kind, int64_t rows, int64_t cols) {
  if (rows == cols) return kind == "o_proj" ? Form::kLeft : Form::kRight;
  return cols < rows ? Form::kRight : Form::kLeft;
}

}  // namespace

std::vector<Target> choose_targets(const std::vector<std::string>& patterns,
                                   const std::string& layers, int layer_count,
                                   const std::vector<MatrixShape>& shapes) {
  std::set<std::string> kinds = choose_kinds(patterns);
  std::vector<Target> targets;
  int64_t offset = 0;
  for (int layer : choose_layers(layers, layer_count)) {
    for (const MatrixShape& shape : shapes) {
      if (!kinds.count(shape.kind)) continue;
      Target target{weight_name(layer, shape.kind),
                    shape.kind,
                    layer,
                    shape.rows,
                    shape.cols,
                    choose_form(shape.kind, shape.rows, shape.cols),
                    offset};
      offset += target.length();
      targets.push_back(std::move(target));
    }
  }
  if (targets.empty()) throw user_error("svd.targets: no matrix chosen; try targets: [mlp]");
  return targets;
}

int64_t total_length(const std::vector<Target>& targets) {
  return targets.empty() ? 0 : targets.back().offset + targets.back().length();
}

}  // namespace svfleet
