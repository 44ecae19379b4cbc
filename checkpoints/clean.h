// RUN/clean.json: up to which step a run is known to have been computed with the right weights, and
// how it goes back there when memory has changed. Beside the checkpoints, not in them: their
// content does not depend on when somebody looked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace svfleet {

struct CleanRecord {
  int64_t step = 0;  // where a change that is found now sends the run back to
  // (a, b]: steps of a process that ended before it had looked at its weights again.
  std::vector<std::pair<int64_t, int64_t>> unchecked;
  std::string changed;  // what was found changed; not empty: later checkpoints are being set aside
  bool operator==(const CleanRecord&) const = default;
};

std::optional<CleanRecord> read_clean(const std::string& run_dir);  // nothing: none, or damaged
void write_clean(const std::string& run_dir, const CleanRecord& record);

// Sets aside what was made after step `record.step`: checkpoints are renamed to *.h5.suspect,
// the run's experts to *.safetensors.suspect, chunks removed. `record.changed` is kept on the disk
// meanwhile: after a crash in the middle finish_setting_aside does the rest. Returns the new names.
std::vector<std::string> set_suspects_aside(const std::string& run_dir, CleanRecord record);
// For a start, before it looks for the newest checkpoint; the new names.
std::vector<std::string> finish_setting_aside(const std::string& run_dir);

// Checkpoints that were set aside, by name.
std::vector<std::string> suspect_checkpoints(const std::string& run_dir);

}  // namespace svfleet
