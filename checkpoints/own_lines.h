// Logs of lines that only the owner of a run folder writes. A take-over need not copy them: what
// the old owner had under way, if it still comes, changes nothing.
//
// Before a line goes to its log it stands in FOLDER/last-line, with the place where it will begin;
// that file gets its name by a rename, which a new owner prevents (Owner::shut_out_others). A new
// owner that finds it writes the line itself, if it is missing. So whoever comes late writes the
// same bytes to the same place.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace svfleet {

// As append_line() of file.h, but nobody else may write to any log of this folder meanwhile, and a
// line of a full disk stays torn until the next one. Thread-safe.
void append_own_line(const std::string& path, std::string_view line);

// For a new owner, after temporary files are gone: completes the last line that the process `by`
// (lines_by()) has written in `folder`. False when it was not the last to write there, or something
// is not as it left it: then it may still write to a log that is not replaced.
bool settle_last_line(const std::string& folder, const std::string& by);

// A process, as it stands in last-line.
std::string lines_by(const std::string& host, int64_t pid, int64_t process_start);

}  // namespace svfleet
