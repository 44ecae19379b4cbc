#include "checkpoints/claim.h"

#include <chrono>
#include <thread>

#include "checkpoints/file.h"
#include "checkpoints/file_steps.h"
#include "checkpoints/process.h"
#include "comm/error.h"

namespace svfleet {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Whose claim it is; empty when there is none, or a torn one.
std::string holder(const std::string& file) {
  for (int tries = 10;; --tries) {
    try {
      return file_exists(file) ? read_file(file) : "";
    } catch (const Error&) {  // given back in between, and perhaps made again
      if (tries == 1) throw;
    }
  }
}

bool make(const std::string& file, const std::string& mark) {
  bool existed = false;
  write_new_file(file, mark, &existed);
  return !existed;
}

// One of those that find a claim abandoned may put theirs in its place; where that one dies on the
// way, another in its.
bool succeed(const std::string& file, const std::string& before, const std::string& mark) {
  const std::string after = file + ".after-" + before;
  if (!make(after, mark)) {
    const std::string other = holder(after);
    if (!mark_is_dead(other).value_or(false) || !succeed(after, other, mark)) return false;
  }
  if (file_exists(file) && holder(file) == before) return rename_file(after, file);
  remove_file(after);
  return false;
}

}  // namespace

Claim::Claim(const std::string& path, double patience_s)
    : file_(path + ".claim"), mark_(process_mark()) {
  Clock::time_point since = Clock::now();
  std::string seen;
  while (!make(file_, mark_)) {
    const std::string now = holder(file_);
    if (now != seen) since = Clock::now();
    seen = now;
    const bool abandoned = mark_is_dead(now).value_or(false) || seconds_since(since) > patience_s;
    if (abandoned && succeed(file_, now, mark_)) return;
    if (seconds_since(since) > 3 * patience_s)
      throw disk_error("'", file_, "' has been in the way for ", 3 * patience_s, " s, by process ",
                       now, "; remove it when that process is gone");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

Claim::~Claim() {
  try {
    if (holder(file_) == mark_)
      remove_after_look(file_, temporary_name(file_),
                        [&](const std::string& moved) { return holder(moved) == mark_; });
  } catch (const Error&) {  // succeeded by others when we are gone
  }
}

void Claim::verify() const {
  if (holder(file_) != mark_)
    throw make_error(kExitRequeue, "'", file_, "' was taken over while this process stood still; ",
                     "start again");
}

}  // namespace svfleet
