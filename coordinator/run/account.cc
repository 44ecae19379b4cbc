#include "coordinator/run/account.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "coordinator/run/record.h"

namespace svfleet {
namespace {

using nlohmann::json;

double number(const json& record, const char* key, double otherwise = 0) {
  const auto found = record.find(key);
  return found != record.end() && found->is_number() ? found->get<double>() : otherwise;
}

std::vector<std::string> texts(const json& record, const char* key) {
  std::vector<std::string> all;
  const auto found = record.find(key);
  if (found == record.end() || !found->is_array()) return all;
  for (const json& one : *found)
    if (one.is_string()) all.push_back(one.get<std::string>());
  return all;
}

// Reads the entries in order and keeps track of the time that is accounted for.
class Reader {
 public:
  void read(const json& record) {
    const std::string kind = text_in(record, "kind");
    const double time = number(record, "time", at_);
    if (kind == "submitted") {
      if (state_ == kAway) at_ = time, state_ = kWaiting;
      if (const auto jobs = texts(record, "jobs"); !jobs.empty()) account_.last_job = jobs.back();
    } else if (kind == "start") {
      start(record, time);
    } else if (kind == "spent" && state_ == kRunning) {
      spent(record, time);
    } else if (kind == "resumed" && state_ == kRunning) {
      resumed(whole_in(record, "step", 0));
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
    next.attempt.job = text_in(record, "job");
    next.attempt.restarts = whole_in(record, "restarts", 0);
    next.attempt.ranks = whole_in(record, "ranks", 1);
    next.attempt.slots = std::max<int64_t>(1, whole_in(record, "slots", 1));
    next.attempt.start = whole_in(record, "start", 0);
    next.attempt.hosts = texts(record, "hosts");
    next.began_s = began;
    if (state_ == kRunning) {  // the one before was killed, and nobody said when
      lose(std::min(began, number(record, "previous_sign")));
      // The same job still held its nodes; otherwise somebody came back to it.
      if (!next.attempt.job.empty() && next.attempt.job == last().attempt.job) pass(began, "hung");
    } else if (state_ == kWaiting) {
      const bool in_allocation = next.attempt.start > 0 && !account_.attempts.empty() &&
                                 next.attempt.job == last().attempt.job;
      pass(began, in_allocation ? "set_up" : "queued");
    }
    at_ = std::max(at_, began);
    if (!next.attempt.job.empty()) account_.last_job = next.attempt.job;
    account_.attempts.push_back(next);
    state_ = kRunning;
    pass(time, "set_up");
  }

  void spent(const json& record, double time) {
    const int64_t step = whole_in(record, "step", -1);
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
    last().restored_chunks += whole_in(record, "chunks", 0);
    const auto seconds = record.find("seconds");
    if (seconds == record.end() || !seconds->is_object()) return;
    std::map<std::string, double> work;  // summed over chunks
    double all = 0;
    for (const auto& [on, s] : seconds->items())
      if (s.is_number()) all += work[on] = s.get<double>();
    // A chunk may be found again after another kill: it is given back once.
    double& given_back = given_back_[whole_in(record, "step", -1)];
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
    last().code = int(whole_in(record, "code", -1));
    last().reason = text_in(record, "reason");
    last().blame = {texts(record, "hosts"), text_in(record, "place")};
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
    const bool of_last = !account_.attempts.empty() &&
                         last().attempt.job == text_in(record, "job") &&
                         last().attempt.restarts == whole_in(record, "restarts", -1) &&
                         last().attempt.start == whole_in(record, "start", 0);
    if (!of_last) {
      if (state_ == kRunning) return;  // of a job that has nothing to say here
      // It ended before it could begin: killed while it set up, or the run was finished.
      if (state_ == kWaiting) pass(time, "set_up");
    } else if (state_ == kRunning) {
      lose(std::min(time, number(record, "last_sign")));
      pass(time, "hung");
      last().ended_s = time;
      if (last().reason.empty()) last().reason = text_in(record, "message");
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

Account read_account(const std::string& run_dir, double sign_s) {
  Reader reader;
  const std::string path = run_dir + "/ledger.jsonl";
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
