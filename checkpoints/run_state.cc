#include "checkpoints/run_state.h"

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>

#include "checkpoints/hash.h"
#include "checkpoints/hdf5_image.h"
#include "comm/error.h"

namespace svfleet {
namespace {

constexpr char kCheckpointFormat[] = "svfleet-checkpoint";
// docs/formats.md; never renumber. Version 2 has several experts.
constexpr int64_t kCheckpointVersion = 1, kVersionOfSeveral = 2;

// Empty when the vectors and slots fit together.
std::string shape_problem(const RunState& state) {
  const size_t n = state.p.size();
  if (state.m.size() != n || state.v.size() != n) return "p, m and v differ in length";
  int64_t at = 0;
  for (const MatrixSlot& slot : state.slots) {
    if (slot.offset != at || slot.length < 0 || slot.length > static_cast<int64_t>(n) - at)
      return "the place of '" + slot.name + "' in p is wrong";
    at += slot.length;
  }
  if (at != static_cast<int64_t>(n)) return "p is longer than its matrices";
  if (state.experts.empty()) return "";
  int64_t last = 0;
  for (const auto& [name, own] : state.experts) {
    if (!own.experts.empty()) return "expert '" + name + "' has experts of its own";
    if (const std::string problem = shape_problem(own); !problem.empty())
      return "of expert '" + name + "' " + problem;
    last = std::max(last, own.step);
  }
  return last == state.step ? "" : "no expert has the steps of the run";
}

}  // namespace

std::vector<RunState*> states_of(RunState& run) {
  if (run.experts.empty()) return {&run};
  std::vector<RunState*> states;
  for (ExpertState& expert : run.experts) states.push_back(&expert.state);
  return states;
}

std::vector<const RunState*> states_of(const RunState& run) {
  if (run.experts.empty()) return {&run};
  std::vector<const RunState*> states;
  for (const ExpertState& expert : run.experts) states.push_back(&expert.state);
  return states;
}

std::vector<std::string> names_of(const RunState& run) {
  if (run.experts.empty()) return {""};
  std::vector<std::string> names;
  for (const ExpertState& expert : run.experts) names.push_back(expert.name);
  return names;
}

std::string state_hash(const RunState& state) {
  Hasher hasher;
  if (!state.experts.empty()) {
    hasher.text("svfleet-state-2").number(state.step);
    for (const auto& [name, own] : state.experts) hasher.text(name).text(state_hash(own));
    return hasher.hex();
  }
  hasher.text("svfleet-state-1");
  hasher.number(state.step).number(state.position).number(static_cast<int64_t>(state.seed));
  hasher.number(static_cast<int64_t>(state.slots.size()));
  for (const MatrixSlot& slot : state.slots)
    hasher.text(slot.name).number(slot.offset).number(slot.length);
  hasher.floats(state.p).floats(state.m).floats(state.v);
  hasher.number(state.updates).number(state.nonfinite_in_a_row).number(state.nonfinite_total);
  hasher.number(std::bit_cast<int64_t>(state.best_score)).number(state.best_step);
  hasher.number(state.validations_since_best);
  hasher.text(state.bits_config).text(state.model_hash).text(state.store_hash).text(state.parent);
  return hasher.hex();
}

std::vector<int64_t> best_steps(const RunState& state) {
  std::vector<int64_t> steps;
  if (state.best_step >= 0) steps.push_back(state.best_step);
  for (const ExpertState& expert : state.experts)
    if (expert.state.best_step >= 0) steps.push_back(expert.state.best_step);
  return steps;
}

namespace {

// What a run of one expert holds, and a run of several of each: below `prefix`.
void write_expert(Hdf5Writer& out, const std::string& prefix, const RunState& state) {
  const auto at = [&](const char* name) { return prefix + name; };
  const std::vector<int64_t> n{static_cast<int64_t>(state.p.size())};
  nlohmann::json names = nlohmann::json::array();
  std::vector<int64_t> lengths;
  for (const MatrixSlot& slot : state.slots) {
    names.push_back(slot.name);
    lengths.push_back(slot.length);
  }
  out.integer(at("step"), state.step);
  out.integer(at("position"), state.position);
  out.integer(at("seed"), static_cast<int64_t>(state.seed));
  out.text(at("slot_names"), names.dump());
  out.integers(at("slot_lengths"), lengths);
  out.floats(at("p"), state.p, n);
  out.floats(at("m"), state.m, n);
  out.floats(at("v"), state.v, n);
  out.integer(at("updates"), state.updates);
  out.integer(at("nonfinite_in_a_row"), state.nonfinite_in_a_row);
  out.integer(at("nonfinite_total"), state.nonfinite_total);
  out.real(at("best_score"), state.best_score);
  out.integer(at("best_step"), state.best_step);
  out.integer(at("validations_since_best"), state.validations_since_best);
  if (!state.validation.empty()) out.text(at("validation"), state.validation);
  out.text(at("bits_config"), state.bits_config);
}

void write_run(Hdf5Writer& out, const RunState& state) {
  out.text("identity", state.identity);
  out.text("config", state.config);
  if (!state.config_shape.empty()) out.text("config_shape", state.config_shape);
  out.text("model_hash", state.model_hash);
  out.text("store_hash", state.store_hash);
  out.text("parent", state.parent);
}

// The same, read.
void read_expert(const Hdf5Reader& in, const std::string& prefix, const std::string& origin,
                 RunState& state) {
  const auto at = [&](const char* name) { return prefix + name; };
  state.step = in.integer(at("step"));
  state.position = in.integer(at("position"));
  state.seed = static_cast<uint64_t>(in.integer(at("seed")));
  state.p = in.floats(at("p"));
  state.m = in.floats(at("m"));
  state.v = in.floats(at("v"));
  const auto names = nlohmann::json::parse(in.text(at("slot_names")), nullptr, false);
  const std::vector<int64_t> lengths = in.integers(at("slot_lengths"));
  if (!names.is_array() || names.size() != lengths.size())
    throw disk_error("'", origin, "' is damaged: slot_names and slot_lengths do not fit");
  int64_t offset = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (!names[i].is_string()) throw disk_error("'", origin, "' is damaged: a slot has no name");
    state.slots.push_back({names[i].get<std::string>(), offset, lengths[i]});
    if (__builtin_add_overflow(offset, lengths[i], &offset)) offset = -1;
  }
  state.updates = in.integer(at("updates"));
  state.nonfinite_in_a_row = in.integer(at("nonfinite_in_a_row"));
  state.nonfinite_total = in.integer(at("nonfinite_total"));
  state.best_score = in.real(at("best_score"));
  state.best_step = in.integer(at("best_step"));
  state.validations_since_best = in.integer(at("validations_since_best"));
  if (in.has(at("validation"))) state.validation = in.text(at("validation"));
  state.bits_config = in.text(at("bits_config"));
}

void read_run(const Hdf5Reader& in, RunState& state) {
  state.identity = in.text("identity");
  state.config = in.text("config");
  if (in.has("config_shape")) state.config_shape = in.text("config_shape");
  state.model_hash = in.text("model_hash");
  state.store_hash = in.text("store_hash");
  state.parent = in.text("parent");
}

std::string below(const std::string& expert) {
  return "experts/" + expert + "/";
}

// What the run and its experts share is written once.
void write_experts(Hdf5Writer& out, const RunState& state) {
  nlohmann::json names = nlohmann::json::array();
  for (const ExpertState& expert : state.experts) names.push_back(expert.name);
  out.integer("step", state.step);
  out.text("expert_names", names.dump());
  for (const auto& [name, own] : state.experts) {
    write_expert(out, below(name), own);
    out.text(below(name) + "config", own.config);
    out.text(below(name) + "parent", own.parent);
  }
}

void read_experts(const Hdf5Reader& in, const std::string& origin, RunState& state) {
  state.step = in.integer("step");
  const auto names = nlohmann::json::parse(in.text("expert_names"), nullptr, false);
  if (!names.is_array() || names.empty())
    throw disk_error("'", origin, "' is damaged: it names no experts");
  for (const auto& name : names) {
    if (!name.is_string()) throw disk_error("'", origin, "' is damaged: an expert has no name");
    auto& [its_name, own] = state.experts.emplace_back();
    its_name = name.get<std::string>();
    read_expert(in, below(its_name), origin, own);
    own.config = in.text(below(its_name) + "config");
    own.parent = in.text(below(its_name) + "parent");
    own.identity = state.identity;
    own.config_shape = state.config_shape;
    own.model_hash = state.model_hash;
    own.store_hash = state.store_hash;
  }
}

}  // namespace

std::string encode_state(const RunState& state) {
  const std::string problem = shape_problem(state);
  SVFLEET_CHECK(problem.empty(), problem);
  const bool several = !state.experts.empty();
  Hdf5Writer out;
  out.text("format", kCheckpointFormat);
  out.integer("version", several ? kVersionOfSeveral : kCheckpointVersion);
  if (several)
    write_experts(out, state);
  else
    write_expert(out, "", state);
  write_run(out, state);
  return out.finish();
}

RunState decode_state(const std::string& image, const std::string& origin) {
  const Hdf5Reader in(image, origin);
  if (!in.has("format") || in.text("format") != kCheckpointFormat)
    throw disk_error("'", origin, "' is not a svfleet checkpoint");
  const int64_t version = in.integer("version");
  if (version != kCheckpointVersion && version != kVersionOfSeveral)
    throw user_error("'", origin, "' was written by a newer svfleet (checkpoint version ", version,
                     ", this one reads up to ", kVersionOfSeveral, "); use that one");
  RunState state;
  if (version == kCheckpointVersion) read_expert(in, "", origin, state);
  read_run(in, state);
  if (version == kVersionOfSeveral) read_experts(in, origin, state);
  if (const std::string problem = shape_problem(state); !problem.empty())
    throw disk_error("'", origin, "' is damaged: ", problem);
  return state;
}

}  // namespace svfleet
