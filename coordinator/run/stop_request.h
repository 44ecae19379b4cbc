// RUN/stop.json: somebody wants the run to end after its next checkpoint (`svfleet stop`).
#pragma once

#include <string>

namespace svfleet {

void request_end(const std::string& run_dir);
bool end_requested(const std::string& run_dir);
void withdraw_end_request(const std::string& run_dir);  // no error when there is none

}  // namespace svfleet
