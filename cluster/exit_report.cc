#include "cluster/exit_report.h"

#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "comm/clock.h"
#include "comm/error.h"

namespace svfleet {
namespace {

std::string path_of(const std::string& run_dir) {
  return run_dir + "/exit.json";
}

}  // namespace

void write_exit_report(const std::string& run_dir, const ExitReport& report) {
  nlohmann::ordered_json json;
  json["reason"] = report.reason;
  json["code"] = report.code;
  json["job"] = report.job;
  json["restarts"] = report.restarts;
  json["start"] = report.start;
  json["step"] = report.step;
  json["hosts"] = report.hosts;
  if (report.best_step >= 0) {
    json["best_step"] = report.best_step;
    json["best_score"] = report.best_score;
  }
  json["time"] = utc(wall_clock_s());
  write_file_atomic(path_of(run_dir),
                    json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

std::optional<ExitReport> read_exit_report(const std::string& run_dir) {
  try {
    if (!file_exists(path_of(run_dir))) return std::nullopt;
    const nlohmann::json file = nlohmann::json::parse(read_file(path_of(run_dir)));
    return ExitReport{file.at("reason"),
                      file.at("code"),
                      file.at("job"),
                      file.at("restarts"),
                      file.value("step", int64_t{-1}),
                      file.value("start", int64_t{0}),
                      file.value("hosts", std::vector<std::string>{}),
                      file.value("best_step", int64_t{-1}),
                      file.value("best_score", -1.0)};
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string what_to_do(int code, const std::string& run_dir) {
  switch (code) {
    case kExitFinished:
      return "";
    case kExitUser:
      return "change what this names, then start it again; unchanged it ends in the same way";
    case kExitInternal:
      return "a bug: report it with this line and " + run_dir +
             "/svfleet.log; nothing saved is lost";
    case kExitDisk:
      return "mend the disk, then start it again; nothing saved is lost";
    case kExitNoProgress:
      return "look into it before you start it again: see " + run_dir +
             "/svfleet.log; it died repeatedly at the same place";
    default:  // kExitRequeue, or the number of a signal
      return "start it again to go on";
  }
}

void remove_exit_report(const std::string& run_dir) {
  remove_file(path_of(run_dir));
}

}  // namespace svfleet
