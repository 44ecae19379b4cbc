#include "coordinator/run/pulse.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "comm/clock.h"
#include "comm/error.h"
#include "coordinator/run/ledger.h"

namespace svfleet {
namespace {

using nlohmann::json;

constexpr double kShortestSeconds = 0.5;  // between two signs

std::string pulse_path(const std::string& run_dir) {
  return run_dir + "/alive.json";
}

json to_json(const SignOfLife& sign) {
  json out = json::array();
  for (const Holding& one : sign.out)
    out.push_back({{"chunk", one.chunk}, {"rank", one.rank}, {"seconds", one.seconds}});
  return {{"format", "svfleet-alive"},
          {"version", 1},
          {"time", sign.time_s},
          {"host", sign.host},
          {"pid", sign.pid},
          {"job", sign.job},
          {"restarts", sign.restarts},
          {"doing", sign.doing},
          {"doing_since", sign.doing_since_s},
          {"step", sign.step},
          {"steps", sign.steps},
          {"chunks", sign.chunks},
          {"chunks_per_step", sign.chunks_per_step},
          {"steps_per_s", sign.steps_per_s},
          {"out", out}};
}

}  // namespace

std::optional<SignOfLife> last_sign_of_life(const std::string& run_dir) {
  try {
    if (!file_exists(pulse_path(run_dir))) return std::nullopt;
    const json file = json::parse(read_file(pulse_path(run_dir)));
    SignOfLife sign;
    sign.time_s = file.at("time");
    sign.host = file.at("host");
    sign.pid = file.at("pid");
    sign.job = file.at("job");
    sign.restarts = file.at("restarts");
    sign.doing = file.at("doing");
    sign.doing_since_s = file.at("doing_since");
    sign.step = file.at("step");
    sign.steps = file.at("steps");
    sign.chunks = file.at("chunks");
    sign.chunks_per_step = file.at("chunks_per_step");
    sign.steps_per_s = file.at("steps_per_s");
    for (const json& one : file.at("out"))
      sign.out.push_back({one.at("chunk"), one.at("rank"), one.at("seconds")});
    return sign;
  } catch (const json::exception&) {
    return std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

Pulse::Pulse(std::string run_dir, SignOfLife start, std::function<void()> still_ours,
             double every_s)
    : path_(pulse_path(run_dir)), still_ours_(std::move(still_ours)), sign_(std::move(start)) {
  sign_.doing_since_s = wall_clock_s();
  thread_ = std::thread([this, every_s] {
    std::unique_lock lock(mutex_);
    while (!over_) {
      news_ = false;
      lock.unlock();
      give();
      lock.lock();
      // A run of quick steps changes what it does many times a second.
      changed_.wait_for(lock, std::chrono::duration<double>(kShortestSeconds),
                        [&] { return over_; });
      changed_.wait_for(lock, std::chrono::duration<double>(every_s),
                        [&] { return over_ || news_; });
    }
  });
}

Pulse::~Pulse() {
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
  give();
}

void Pulse::give() {
  std::string text;
  {
    std::lock_guard lock(mutex_);
    sign_.time_s = wall_clock_s();
    text = to_json(sign_).dump(1, ' ', false, json::error_handler_t::replace) + "\n";
  }
  try {
    still_ours_();
    write_file_atomic(path_, text);
  } catch (const Error&) {  // taken over, or a full disk: a run does not die of its pulse
  }
}

void Pulse::doing(const std::string& what) {
  std::lock_guard lock(mutex_);
  if (sign_.doing == what) return;
  sign_.doing = what;
  sign_.doing_since_s = wall_clock_s();
  news_ = true;
  changed_.notify_all();
}

void Pulse::at(int64_t step, int64_t steps, int64_t chunks, int64_t chunks_per_step) {
  std::lock_guard lock(mutex_);
  const double now = wall_clock_s();
  if (first_step_ < 0) first_step_ = step, first_s_ = now;
  if (step > first_step_) sign_.steps_per_s = double(step - first_step_) / (now - first_s_);
  sign_.step = step;
  sign_.steps = steps;
  sign_.chunks = chunks;
  sign_.chunks_per_step = chunks_per_step;
}

void Pulse::out(std::vector<Holding> holdings) {
  std::lock_guard lock(mutex_);
  sign_.out = std::move(holdings);
}

}  // namespace svfleet
