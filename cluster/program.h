// Another program, asked with a time limit.
#pragma once

#include <string>
#include <vector>

namespace svfleet {

struct Answer {
  bool started = false;   // false: there is no such program
  bool complete = false;  // ended by itself in time
  int exit_code = -1;
  std::string out, err;  // the first 64 KiB of each
};

// Runs a program with no input; it is killed when the time is over. SQUEUE_* variables are not
// passed on: a user's SQUEUE_PARTITION or SQUEUE_STATES would hide jobs that live.
Answer run_program(const std::vector<std::string>& words, double timeout_s);

}  // namespace svfleet
