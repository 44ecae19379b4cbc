#include "coordinator/ledger.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "checkpoints/file.h"
#include "checkpoints/process.h"
#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

std::string path_of(const std::string& run_dir) {
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

double number(const json& record, const char* key, double otherwise = 0) {
  const auto found = record.find(key);
  return found != record.end() && found->is_number() ? found->get<double>() : otherwise;
}

int64_t whole(const json& record, const char* key, int64_t otherwise) {
  const auto found = record.find(key);
  return found != record.end() && found->is_number_integer() ? found->get<int64_t>() : otherwise;
}

std::string text(const json& record, const char* key) {
  const auto found = record.find(key);
  return found != record.end() && found->is_string() ? found->get<std::string>() : "";
}

// Reads the entries in order and keeps track of the time that is accounted for.
class Reader {
 public:
  void read(const json& record) {
    const std::string kind = text(record, "kind");
    const double time = number(record, "time", at_);
    if (kind == "submitted") {
      if (state_ == kAway) at_ = time, state_ = kWaiting;
      if (const auto jobs = record.find("jobs"); jobs != record.end() && jobs->is_array())
        for (const json& job : *jobs)
          if (job.is_string()) account_.last_job = job.get<std::string>();
    } else if (kind == "start") {
      start(record, time);
    } else if (kind == "spent" && state_ == kRunning) {
      spent(record, time);
    } else if (kind == "resumed" && state_ == kRunning) {
      resumed(whole(record, "step", 0));
    } else if (kind == "restored" && state_ == kRunning) {
      restored(record);
    } else if (kind == "first_chunk" && state_ == kRunning) {
      last().first_chunk_s = number(record, "after_s", -1);
      last().load_s = number(record, "load_s", -1);
    } else if (kind == "end" && state_ == kRunning) {
      end(record, time);
    } else if (kind == "job_end") {
      job_end(record, time);
    }
  }

  Account finish(double sign_s) {
    account_.running = state_ == kRunning;
    account_.waits = state_ == kWaiting;
    // Until it says what it was for: in the hands of a process that lives, or lost.
    if (state_ == kRunning) pass(sign_s, "lost");
    double busy = 0, held = 0;
    for (const char* on : kSpentOn) {
      const double s = account_.seconds[on];
      account_.total_s += s;
      const std::string name = on;
      if (name == "queued") continue;
      held += s;
      if (name != "set_up" && name != "loading" && name != "idle" && name != "lost" &&
          name != "hung")
        busy += s;
    }
    account_.goodput = held > 0 ? busy / held : 0;
    return std::move(account_);
  }

 private:
  enum State { kAway, kWaiting, kRunning };

  AttemptReport& last() { return account_.attempts.back(); }

  // Time up to `until` was spent on this; a clock that was set back spends nothing.
  void pass(double until, const char* on) {
    if (until <= at_) return;
    account_.seconds[on] += until - at_;
    at_ = until;
  }

  void start(const json& record, double time) {
    const double began = number(record, "began", time);
    AttemptReport next;
    next.attempt.job = text(record, "job");
    next.attempt.restarts = whole(record, "restarts", 0);
    next.attempt.ranks = whole(record, "ranks", 1);
    next.attempt.slots = std::max<int64_t>(1, whole(record, "slots", 1));
    if (const auto hosts = record.find("hosts"); hosts != record.end() && hosts->is_array())
      for (const json& host : *hosts)
        if (host.is_string()) next.attempt.hosts.push_back(host.get<std::string>());
    next.began_s = began;
    if (state_ == kRunning) {  // the one before was killed, and nobody said when
      lose(std::min(began, number(record, "previous_sign")));
      // The same job still held its nodes; otherwise somebody came back to it.
      if (!next.attempt.job.empty() && next.attempt.job == last().attempt.job) pass(began, "hung");
    } else if (state_ == kWaiting) {
      pass(began, "queued");
    }
    at_ = std::max(at_, began);
    if (!next.attempt.job.empty()) account_.last_job = next.attempt.job;
    account_.attempts.push_back(next);
    state_ = kRunning;
    pass(time, "set_up");
  }

  void spent(const json& record, double time) {
    const int64_t step = whole(record, "step", -1);
    const auto seconds = record.find("seconds");
    double sum = 0;
    Kept kept{step, 1, {}};
    if (seconds != record.end() && seconds->is_object())
      for (const auto& [on, s] : seconds->items())
        if (s.is_number()) {
          account_.seconds[on] += s.get<double>();
          kept.seconds[on] += s.get<double>();
          sum += s.get<double>();
        }
    // Entries are rounded, and a clock may have been set.
    at_ = std::max(at_ + sum, time);
    if (step >= 0) {
      last().last_step = std::max(last().last_step, step);
      kept.slots = last().attempt.slots;
      steps_.push_back(std::move(kept));
    }
  }

  void resumed(int64_t step) {
    last().first_step = last().last_step = step;
    for (Kept& kept : steps_) {
      if (kept.step <= step) continue;
      double sum = 0;
      for (const auto& [on, s] : kept.seconds) {
        account_.seconds[on] -= s;
        account_.seconds["lost"] += s;
        sum += s;
      }
      lost_.push_back({sum, kept.slots});
      kept.seconds.clear();
    }
  }

  void restored(const json& record) {
    last().restored_chunks += whole(record, "chunks", 0);
    const auto seconds = record.find("seconds");
    if (seconds == record.end() || !seconds->is_object()) return;
    std::map<std::string, double> work;  // summed over chunks
    double all = 0;
    for (const auto& [on, s] : seconds->items())
      if (s.is_number()) all += work[on] = s.get<double>();
    // A chunk may be found again after another kill: it is given back once.
    double& given_back = given_back_[whole(record, "step", -1)];
    double more = all - given_back;
    if (more <= 0) return;
    given_back = all;
    for (auto lost = lost_.rbegin(); lost != lost_.rend() && more > 0; ++lost) {
      const double back = std::min(lost->seconds, more / double(lost->slots));
      lost->seconds -= back;
      more -= back * double(lost->slots);
      account_.seconds["lost"] -= back;
      for (const auto& [on, s] : work) account_.seconds[on] += back * s / all;
    }
  }

  // By the last attempt, up to `until`; a journal may give some of it back.
  void lose(double until) {
    if (until <= at_) return;
    lost_.push_back({until - at_, last().attempt.slots});
    pass(until, "lost");
  }

  void end(const json& record, double time) {
    last().ended_s = time;
    last().code = int(whole(record, "code", -1));
    last().reason = text(record, "reason");
    if (last().code == kExitFinished) {
      pass(time, "set_up");
    } else {
      lose(time - number(record, "hung_s"));
      pass(time, "hung");
    }
    state_ = kAway;
  }

  void job_end(const json& record, double time) {
    const auto told = record.find("again");
    const bool again = told != record.end() && told->is_boolean() && told->get<bool>();
    const bool of_last = !account_.attempts.empty() && last().attempt.job == text(record, "job") &&
                         last().attempt.restarts == whole(record, "restarts", -1);
    if (!of_last) {
      if (state_ == kRunning) return;  // of a job that has nothing to say here
      // It ended before it could begin: killed while it set up, or the run was finished.
      if (state_ == kWaiting) pass(time, "set_up");
    } else if (state_ == kRunning) {
      lose(std::min(time, number(record, "last_sign")));
      pass(time, "hung");
      last().ended_s = time;
      if (last().reason.empty()) last().reason = text(record, "message");
    } else {
      pass(time, "set_up");
    }
    at_ = std::max(at_, time);
    state_ = again ? kWaiting : kAway;
  }

  struct Kept {
    int64_t step, slots;
    std::map<std::string, double> seconds;
  };
  struct Lost {
    double seconds = 0;
    int64_t slots = 1;
  };

  Account account_;
  State state_ = kAway;
  double at_ = 0;  // all time before is accounted for
  std::vector<Kept> steps_;
  std::vector<Lost> lost_;                // of which a journal may give some back
  std::map<int64_t, double> given_back_;  // by step: work of its chunks, summed over them
};

}  // namespace

double wall_clock_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

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
    : path_(path_of(run_dir)), began_s_(began_s), last_s_(wall_clock_s()), hold_(hold) {
  ordered_json record = {
      {"kind", "start"},        {"time", milliseconds(last_s_)}, {"began", milliseconds(began_s)},
      {"job", attempt.job},     {"restarts", attempt.restarts},  {"ranks", attempt.ranks},
      {"slots", attempt.slots}, {"hosts", attempt.hosts}};
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

void Ledger::spent(const std::string& on) {
  spent({}, on, -1);
}

void Ledger::spent(std::map<std::string, double> parts, const std::string& rest, int64_t step) {
  const double now = wall_clock_s(), elapsed = std::max(0.0, now - last_s_);
  last_s_ = now;
  double sum = 0;
  for (const auto& [on, s] : parts) sum += s;
  // Parts of other clocks and ranks may come to a little more than what passed here.
  const double scale = sum > elapsed ? elapsed / sum : 1;
  ordered_json seconds = ordered_json::object();
  for (const auto& [on, s] : parts)
    if (s > 0) seconds[on] = milliseconds(s * scale);
  if (elapsed > sum)
    seconds[rest] = milliseconds(elapsed - sum + (parts.count(rest) ? parts[rest] : 0));
  ordered_json record = {{"kind", "spent"}, {"time", milliseconds(now)}};
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

void Ledger::first_chunk(double load_s) {
  const double now = wall_clock_s();
  write({{"kind", "first_chunk"},
         {"time", milliseconds(now)},
         {"after_s", milliseconds(now - began_s_)},
         {"load_s", milliseconds(load_s)}});
}

void Ledger::end(int code, const std::string& reason, double hung_s) {
  ordered_json record = {
      {"kind", "end"}, {"time", milliseconds(wall_clock_s())}, {"code", code}, {"reason", reason}};
  if (hung_s > 0) record["hung_s"] = milliseconds(hung_s);
  write(std::move(record));
}

void note_submitted(const std::string& run_dir, const std::vector<std::string>& jobs) {
  append(path_of(run_dir),
         {{"kind", "submitted"}, {"time", milliseconds(wall_clock_s())}, {"jobs", jobs}});
}

void note_job_end(const std::string& run_dir, const std::string& job, int64_t restarts, bool again,
                  const std::string& message, double last_sign_s) {
  append(path_of(run_dir), {{"kind", "job_end"},
                            {"time", milliseconds(wall_clock_s())},
                            {"job", job},
                            {"restarts", restarts},
                            {"again", again},
                            {"message", message},
                            {"last_sign", milliseconds(last_sign_s)}});
}

Account read_account(const std::string& run_dir, double sign_s) {
  Reader reader;
  const std::string path = path_of(run_dir);
  if (!file_exists(path)) return {};
  const std::string all = read_file(path);
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find('\n', begin), all.size());
    const json record = json::parse(all.begin() + std::ptrdiff_t(begin),
                                    all.begin() + std::ptrdiff_t(end), nullptr, false);
    begin = end + 1;
    if (record.is_object()) reader.read(record);
  }
  return reader.finish(sign_s);
}

}  // namespace svfleet
