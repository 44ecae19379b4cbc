// Start here: everything that a run needs to go on as if nothing had happened, and its image in a
// file. Format: docs/formats.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace svfleet {

// One adapted matrix's place in the flat vectors p, m, v.
struct MatrixSlot {
  std::string name;    // Hugging Face weight name
  int64_t offset = 0;  // first entry
  int64_t length = 0;  // r = min(m, n)
  bool operator==(const MatrixSlot&) const = default;
};

struct ExpertState;

struct RunState {
  int64_t step = 0;      // finished steps
  int64_t position = 0;  // prompts consumed so far: the place in the keyed order
  uint64_t seed = 0;
  std::vector<MatrixSlot> slots;
  std::vector<float> p;  // parameters; z = 1 + p (direct)
  std::vector<float> m;  // AdamW first moment
  std::vector<float> v;  // AdamW second moment
  int64_t updates = 0;   // optimizer calls so far (a step without signal makes none)
  int64_t nonfinite_in_a_row = 0;
  int64_t nonfinite_total = 0;
  double best_score = -1;  // best mean score of a validation so far, -1 before the first
  int64_t best_step = -1;
  int64_t validations_since_best = 0;
  std::string validation;    // what the best was chosen by and on; empty = not said
  std::string bits_config;   // canonical JSON of the settings that may alter bits
  std::string identity;      // canonical JSON: instruction set, build, threads, ...
  std::string config;        // effective YAML, for people
  std::string config_shape;  // what of the model's folder is config.json's; empty = not said
  std::string model_hash;
  std::string store_hash;
  std::string parent;  // run and step this one was forked from, or empty

  // Of a run of several experts: they, in the order of its configuration. What they do not share,
  // from `position` to `bits_config`, and `parent` are theirs alone, and as above here; the run's
  // `step` counts the steps in which any of them took part.
  std::vector<ExpertState> experts;
};

// One of several experts that are trained together.
struct ExpertState {
  std::string name;
  RunState state;  // to the bit that of a run of its own, but for `identity`
};

// The experts' states, in order; of a run of one, its own.
std::vector<RunState*> states_of(RunState& run);
std::vector<const RunState*> states_of(const RunState& run);
// Their names; of a run of one, one without a name.
std::vector<std::string> names_of(const RunState& run);

// Hash of everything above except `config`, `config_shape`, `identity` and `validation`: equal
// states, equal hash. Of several experts: of the run's step, and of each one's name and state.
std::string state_hash(const RunState& state);

// The steps of which a run needs the checkpoint for its best experts; none where none is chosen.
std::vector<int64_t> best_steps(const RunState& state);

std::string encode_state(const RunState& state);                             // a file image
RunState decode_state(const std::string& image, const std::string& origin);  // Error(kExitDisk)

}  // namespace svfleet
