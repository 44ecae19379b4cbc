#include "coordinator/run/ledger.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "checkpoints/file.h"
#include "checkpoints/process.h"
#include "comm/clock.h"
#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

std::string ledger_path(const std::string& run_dir) {
  return run_dir + "/ledger.jsonl";
}

double milliseconds(double seconds) {
  return std::round(seconds * 1e3) / 1e3;
}

void append(const std::string& path, const ordered_json& record) {
  try {
    append_line(path, record.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
  } catch (const Error&) {  // a full disk: the run's results matter, its diary does not
  }
}

}  // namespace

double process_began_s() {
  const int64_t ticks = process_start(getpid());  // since the machine started
  timespec up{};
  if (ticks <= 0 || clock_gettime(CLOCK_BOOTTIME, &up) != 0) return wall_clock_s();
  const double age =
      double(up.tv_sec) + 1e-9 * double(up.tv_nsec) - double(ticks) / double(sysconf(_SC_CLK_TCK));
  return wall_clock_s() - std::max(0.0, age);
}

Ledger::Ledger(const std::string& run_dir, const Attempt& attempt, double began_s,
               double previous_sign_s, bool hold)
    : path_(ledger_path(run_dir)), began_s_(began_s), last_s_(wall_clock_s()), hold_(hold) {
  ordered_json record = {
      {"kind", "start"},        {"time", milliseconds(last_s_)}, {"began", milliseconds(began_s)},
      {"job", attempt.job},     {"restarts", attempt.restarts},  {"ranks", attempt.ranks},
      {"slots", attempt.slots}, {"hosts", attempt.hosts},        {"start", attempt.start}};
  if (previous_sign_s > 0) record["previous_sign"] = milliseconds(previous_sign_s);
  write(std::move(record));
}

void Ledger::write(ordered_json record) {
  if (hold_)
    held_.push_back(std::move(record));
  else
    append(path_, record);
}

void Ledger::go_ahead() {
  hold_ = false;
  for (const ordered_json& record : held_) append(path_, record);
  held_.clear();
}

void Ledger::spent(const std::string& on, double now_s) {
  spent({}, on, -1, now_s);
}

void Ledger::spent(std::map<std::string, double> parts, const std::string& rest, int64_t step,
                   double now_s) {
  const double elapsed = std::max(0.0, now_s - last_s_);
  last_s_ = std::max(last_s_, now_s);
  double sum = 0;
  for (const auto& [on, s] : parts) sum += s;
  // Parts of other clocks and ranks may come to a little more than what passed here.
  const double scale = sum > elapsed ? elapsed / sum : 1;
  ordered_json seconds = ordered_json::object();
  for (const auto& [on, s] : parts)
    if (s > 0) seconds[on] = milliseconds(s * scale);
  if (elapsed > sum)
    seconds[rest] = milliseconds(elapsed - sum + (parts.count(rest) ? parts[rest] : 0));
  ordered_json record = {{"kind", "spent"}, {"time", milliseconds(now_s)}};
  if (step >= 0) record["step"] = step;
  record["seconds"] = seconds;
  write(std::move(record));
}

void Ledger::resumed(int64_t step) {
  write({{"kind", "resumed"}, {"time", milliseconds(wall_clock_s())}, {"step", step}});
}

void Ledger::restored(int64_t step, int64_t chunks, const std::map<std::string, double>& seconds) {
  ordered_json rounded = ordered_json::object();
  for (const auto& [on, s] : seconds) rounded[on] = milliseconds(s);
  write({{"kind", "restored"},
         {"time", milliseconds(wall_clock_s())},
         {"step", step},
         {"chunks", chunks},
         {"seconds", rounded}});
}

void Ledger::first_chunk(double load_s, double now_s) {
  write({{"kind", "first_chunk"},
         {"time", milliseconds(now_s)},
         {"after_s", milliseconds(now_s - began_s_)},
         {"load_s", milliseconds(load_s)}});
}

void Ledger::end(int code, const std::string& reason, double hung_s, const Blame& blame) {
  ordered_json record = {
      {"kind", "end"}, {"time", milliseconds(wall_clock_s())}, {"code", code}, {"reason", reason}};
  if (hung_s > 0) record["hung_s"] = milliseconds(hung_s);
  if (!blame.hosts.empty()) record["hosts"] = blame.hosts;
  if (!blame.place.empty()) record["place"] = blame.place;
  write(std::move(record));
}

void note_submitted(const std::string& run_dir, const std::vector<std::string>& jobs) {
  append(ledger_path(run_dir),
         {{"kind", "submitted"}, {"time", milliseconds(wall_clock_s())}, {"jobs", jobs}});
}

void note_job_end(const std::string& run_dir, const std::string& job, int64_t restarts,
                  int64_t start, bool again, const std::string& message, double last_sign_s) {
  append(ledger_path(run_dir), {{"kind", "job_end"},
                                {"time", milliseconds(wall_clock_s())},
                                {"job", job},
                                {"restarts", restarts},
                                {"start", start},
                                {"again", again},
                                {"message", message},
                                {"last_sign", milliseconds(last_sign_s)}});
}

}  // namespace svfleet
