// The program that the jobs of a run start: a copy in RUN/bin, so that a rebuild does not end the
// run. Format: docs/formats.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "coordinator/crew/crew.h"

namespace svfleet {

struct RunProgram {
  std::string hash;                    // of its file's bytes
  std::string torch;                   // torch_build() at the submission
  std::vector<std::string> libraries;  // files that it had loaded then
};

// The one that the jobs of the run in `run_dir` start from now on: the copy that lies there while a
// job may use it and from the first checkpoint on, else this program. Error(kExitUser) where the
// run goes on with a libtorch or, without a copy, with a program that is another than this one's,
// kExitDisk where the copy is damaged. Changes nothing.
RunProgram choose_program(const std::string& run_dir, bool allow_different_hardware);

// Puts it there as RUN/bin/svfleet, byte for byte, if it is not there yet. Atomic: what is there
// under that name is whole. Error(kExitUser) where the disk lets nobody execute it.
void keep_program(const std::string& run_dir, const RunProgram& program);

// The folders of its libraries, for LD_LIBRARY_PATH. The system's own are left out: they are found
// anyway, and would hide what a site puts before them.
std::vector<std::string> library_folders(const RunProgram& program);

// Collective, at a start: Error(kExitUser) where the run was submitted with another program or
// libtorch than this process runs, or a warning where that is allowed. A run that was never
// submitted has none.
void check_program(const std::string& run_dir, Crew& crew, bool allow_different_hardware);

}  // namespace svfleet
