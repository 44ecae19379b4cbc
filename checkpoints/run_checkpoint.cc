#include "checkpoints/run_checkpoint.h"

#include <algorithm>
#include <bit>
#include <map>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "checkpoints/hdf5_image.h"
#include "checkpoints/run_names.h"
#include "comm/error.h"

namespace svfleet {
namespace {

constexpr char kCheckpointFormat[] = "svfleet-checkpoint";
constexpr int64_t kCheckpointVersion = 1;  // docs/formats.md; never renumber

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
  return "";
}

// Steps with a file, newest first, and the file's name.
std::vector<std::pair<int64_t, std::string>> checkpoint_files(const std::string& run_dir) {
  std::vector<std::pair<int64_t, std::string>> files;
  for (const std::string& name : list_folder(run_dir + "/checkpoints"))
    if (const auto of = named_step(name); of && of->rest == ".h5")
      files.emplace_back(of->step, name);
  std::sort(files.rbegin(), files.rend());
  return files;
}

}  // namespace

std::string state_hash(const RunState& state) {
  Hasher hasher;
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

std::string encode_state(const RunState& state) {
  const std::string problem = shape_problem(state);
  SVFLEET_CHECK(problem.empty(), problem);
  const std::vector<int64_t> n{static_cast<int64_t>(state.p.size())};
  nlohmann::json names = nlohmann::json::array();
  std::vector<int64_t> lengths;
  for (const MatrixSlot& slot : state.slots) {
    names.push_back(slot.name);
    lengths.push_back(slot.length);
  }
  Hdf5Writer out;
  out.text("format", kCheckpointFormat);
  out.integer("version", kCheckpointVersion);
  out.integer("step", state.step);
  out.integer("position", state.position);
  out.integer("seed", static_cast<int64_t>(state.seed));
  out.text("slot_names", names.dump());
  out.integers("slot_lengths", lengths);
  out.floats("p", state.p, n);
  out.floats("m", state.m, n);
  out.floats("v", state.v, n);
  out.integer("updates", state.updates);
  out.integer("nonfinite_in_a_row", state.nonfinite_in_a_row);
  out.integer("nonfinite_total", state.nonfinite_total);
  out.real("best_score", state.best_score);
  out.integer("best_step", state.best_step);
  out.integer("validations_since_best", state.validations_since_best);
  if (!state.validation.empty()) out.text("validation", state.validation);
  out.text("bits_config", state.bits_config);
  out.text("identity", state.identity);
  out.text("config", state.config);
  if (!state.config_shape.empty()) out.text("config_shape", state.config_shape);
  out.text("model_hash", state.model_hash);
  out.text("store_hash", state.store_hash);
  out.text("parent", state.parent);
  return out.finish();
}

RunState decode_state(const std::string& image, const std::string& origin) {
  const Hdf5Reader in(image, origin);
  if (!in.has("format") || in.text("format") != kCheckpointFormat)
    throw disk_error("'", origin, "' is not a svfleet checkpoint");
  if (const int64_t version = in.integer("version"); version != kCheckpointVersion)
    throw user_error("'", origin, "' was written by a newer svfleet (checkpoint version ", version,
                     ", this one reads ", kCheckpointVersion, "); use that one");
  RunState state;
  state.step = in.integer("step");
  state.position = in.integer("position");
  state.seed = static_cast<uint64_t>(in.integer("seed"));
  state.p = in.floats("p");
  state.m = in.floats("m");
  state.v = in.floats("v");
  const auto names = nlohmann::json::parse(in.text("slot_names"), nullptr, false);
  const std::vector<int64_t> lengths = in.integers("slot_lengths");
  if (!names.is_array() || names.size() != lengths.size())
    throw disk_error("'", origin, "' is damaged: slot_names and slot_lengths do not fit");
  int64_t offset = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (!names[i].is_string()) throw disk_error("'", origin, "' is damaged: a slot has no name");
    state.slots.push_back({names[i].get<std::string>(), offset, lengths[i]});
    if (__builtin_add_overflow(offset, lengths[i], &offset)) offset = -1;
  }
  if (const std::string problem = shape_problem(state); !problem.empty())
    throw disk_error("'", origin, "' is damaged: ", problem);
  state.updates = in.integer("updates");
  state.nonfinite_in_a_row = in.integer("nonfinite_in_a_row");
  state.nonfinite_total = in.integer("nonfinite_total");
  state.best_score = in.real("best_score");
  state.best_step = in.integer("best_step");
  state.validations_since_best = in.integer("validations_since_best");
  if (in.has("validation")) state.validation = in.text("validation");
  state.bits_config = in.text("bits_config");
  state.identity = in.text("identity");
  state.config = in.text("config");
  if (in.has("config_shape")) state.config_shape = in.text("config_shape");
  state.model_hash = in.text("model_hash");
  state.store_hash = in.text("store_hash");
  state.parent = in.text("parent");
  return state;
}

std::string checkpoint_path(const std::string& run_dir, int64_t step) {
  return run_dir + "/checkpoints/" + step_name(step) + ".h5";
}

void save_checkpoint(const std::string& run_dir, const RunState& state) {
  const std::string image = encode_state(state);
  make_folder(run_dir + "/checkpoints");
  write_file_atomic(checkpoint_path(run_dir, state.step), image);
}

std::vector<int64_t> checkpoint_steps(const std::string& run_dir) {
  std::vector<int64_t> steps;
  for (const auto& [step, name] : checkpoint_files(run_dir)) steps.push_back(step);
  std::reverse(steps.begin(), steps.end());
  return steps;
}

RunState load_checkpoint(const std::string& run_dir, int64_t step) {
  const std::string path = checkpoint_path(run_dir, step);
  RunState state = decode_state(read_file(path), path);
  if (state.step != step)
    throw disk_error("'", path, "' holds step ", state.step, ", not the step of its name");
  return state;
}

NewestCheckpoint load_newest_checkpoint(const std::string& run_dir) {
  NewestCheckpoint newest;
  for (const auto& [step, name] : checkpoint_files(run_dir)) {
    const std::string path = run_dir + "/checkpoints/" + name;
    std::string image;
    try {
      image = read_file(path);
    } catch (const Error& error) {
      newest.damaged.push_back(error.what());
      continue;
    }
    try {
      RunState state = decode_state(image, path);
      if (state.step != step)
        throw disk_error("'", path, "' holds step ", state.step, ", not the step of its name");
      newest.state = std::move(state);
      break;
    } catch (const Error& error) {
      // A file of a newer svfleet is whole: falling back behind it would lose its steps unasked.
      if (error.code() != kExitDisk) throw;
      newest.damaged.push_back(error.what());
      newest.wrong.push_back(path);
    }
  }
  return newest;
}

void prune_checkpoints(const std::string& run_dir, int keep, int64_t best_step,
                       int64_t clean_step) {
  int good = 0;
  bool clean_found = clean_step < 0;
  std::vector<int64_t> wanted{best_step};
  for (const auto& [step, name] : checkpoint_files(run_dir)) {
    const std::string path = run_dir + "/checkpoints/" + name;
    const bool among_last = good < std::max(keep, 1),
               maybe_clean = !clean_found && step <= clean_step;
    if (!among_last && !maybe_clean) {
      if (std::find(wanted.begin(), wanted.end(), step) == wanted.end()) remove_file(path);
      continue;
    }
    // A damaged file counts for nothing: else a damaged newest one would push out the good ones.
    try {
      const RunState state = decode_state(read_file(path), path);
      if (state.step != step) continue;
      ++good;
      if (maybe_clean) wanted.push_back(state.best_step);
      clean_found = clean_found || maybe_clean;
    } catch (const Error&) {
    }
  }
}

}  // namespace svfleet
