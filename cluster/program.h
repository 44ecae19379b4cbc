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

// Runs a program with no input; it is killed when the time is over, and waited for two seconds
// then. What changes the answers of Slurm's commands is not passed on: a user's SQUEUE_PARTITION or
// SQUEUE_STATES would hide jobs that live, SLURM_TIME_FORMAT gives times that nobody can read.
// `without`: names of more variables that the program does not get; one that ends with * stands for
// all that begin so.
Answer run_program(const std::vector<std::string>& words, double timeout_s,
                   const std::vector<std::string>& without = {});

}  // namespace svfleet
