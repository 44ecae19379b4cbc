// RUN/readings.jsonl: how often a run's test split has been read. Each look at it, and each choice
// made after one, makes the next figure less of a test.
#pragma once

#include <string>
#include <vector>

#include "coordinator/training/measurement.h"

namespace svfleet {

// One expert that was measured on a split.
struct TestReading {
  std::string run_dir;  // whose it is
  std::string split;
  std::vector<std::string> data;  // content hash for each task
  std::string expert;             // z hash
  int64_t items = 0, samples = 1;
};

// The run in whose folder experts/ the file lies, else that in `run_dir`; empty: neither is one.
std::string run_read_by(const std::string& expert_file, const std::string& run_dir);

// Notes these readings, a line each, and returns how often each of their runs was read before.
// Whoever owns the run: nothing else that svfleet does writes or removes this file. Of a folder
// that takes no line this warns, in one line, and goes on.
std::vector<EarlierReadings> note_readings(const std::vector<TestReading>& readings);

}  // namespace svfleet
