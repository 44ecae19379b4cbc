// What an evaluation has measured, whole: every figure and test of it can be made from this alone,
// and `evaluate --out` keeps it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace svfleet {

// What became of one reply.
struct ItemResult {
  double score = 0;  // a cut reply by its task's rule
  bool right = false;
  bool ended = false;  // by itself
  int64_t tokens = 0;
  std::string reply;
  std::optional<std::string> answer = {};  // rl/answer.h; none of a cut reply that is wrong as such
};

struct MeasuredItem {
  std::string task;
  int64_t index = 0;         // line of its file, from 0
  std::string prompt, gold;  // to be read
  std::string cluster;       // within its task; empty: its own
  bool operator==(const MeasuredItem&) const = default;
};

struct MeasuredPolicy {
  std::string name;
  size_t of = 0;                    // of a control: the place of its expert; 0: it is none
  std::vector<ItemResult> replies;  // item by item, samples of an item in order
};

// Of a run's test split, before this one.
struct EarlierReadings {
  std::string run;
  int64_t times = 0;
};

struct Measurement {
  std::string split;
  double temperature = 0;
  int64_t samples = 1;                   // of each item
  std::vector<MeasuredItem> items;       // task by task
  std::vector<MeasuredPolicy> policies;  // the base first
  std::vector<EarlierReadings> readings;
};

}  // namespace svfleet
