#include "coordinator/run/stop_request.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/process.h"
#include "comm/clock.h"
#include "coordinator/run/ledger.h"

namespace svfleet {
namespace {

std::string stop_request_path(const std::string& run_dir) {
  return run_dir + "/stop.json";
}

}  // namespace

void request_end(const std::string& run_dir) {
  const nlohmann::ordered_json request = {{"format", "svfleet-stop"},
                                          {"version", 1},
                                          {"time", wall_clock_s()},
                                          {"host", host_name()},
                                          {"pid", getpid()}};
  write_file_atomic(stop_request_path(run_dir), request.dump(1) + "\n");
}

bool end_requested(const std::string& run_dir) {
  return file_exists(stop_request_path(run_dir));
}

void withdraw_end_request(const std::string& run_dir) {
  remove_file(stop_request_path(run_dir));
}

}  // namespace svfleet
