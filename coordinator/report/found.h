// What a report tells of one run: read from the files of its folder, as far as they are there and
// whole.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "checkpoints/safetensors.h"

namespace svfleet {

struct FoundSteps {
  std::vector<nlohmann::json> steps, validations;  // by step, of each its last attempt
  int64_t starts = 0, ranks = 0;                   // ranks of the last start; 0: not known
  bool finished = false;                           // since the last start
};

// An item that base and expert answered differently, one right and one wrong.
struct ChangedSample {
  std::string task, prompt, gold, base, expert, who;
  bool gained = false;  // the expert is right
};

// Results that were kept in the run folder (docs/formats.md, "Reports").
struct FoundResults {
  // file name and what `evaluate --json` or `adapt --json` printed
  std::vector<std::pair<std::string, nlohmann::json>> reports;
  std::vector<ChangedSample> samples;  // the first of each kind and policy
  int64_t gained = 0, lost = 0;        // all of them
  int64_t readings = 0;                // of the test split
};

struct FoundRun {
  std::string folder;              // as it was given: what `evaluate` has kept is of all of it
  std::string name;                // the folder; of one of several experts, that of its files
  std::vector<std::string> notes;  // what is missing, damaged or unfinished, a line each
  std::map<std::string, std::string> settings;  // of effective.yaml, by dotted name
  FoundSteps log;
  std::string expert_file;  // best, final or last, from RUN on; empty: none is whole
  SafetensorsData expert;   // of any version and core
  FoundResults results;
};

// A run of one expert, or each expert of a run of several as one; the results that are kept there
// are with the first. Error(kExitUser) when `folder` is no run folder; whatever else is wrong
// stands in `notes`.
std::vector<FoundRun> find_runs(const std::string& folder);

}  // namespace svfleet
