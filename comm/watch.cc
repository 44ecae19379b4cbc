#include "comm/watch.h"

#include <algorithm>
#include <chrono>
#include <sstream>

#include "comm/clock.h"
#include "comm/error.h"
#include "comm/give_up.h"
#include "comm/wait.h"

namespace svfleet {
namespace {

constexpr int kTag = 0;
constexpr double kLongestTick = 2;  // s; what is longer, this process was stopped for
constexpr double kMargin = 10;      // s by which a rank leaves it to the others to name it

}  // namespace

Watch::Watch(const Group& group, Mailbox* mail, const GroupOptions& options)
    : group_(group),
      mail_(mail),
      timeout_s_(options.timeout_s),
      period_s_(std::min(1.0, options.timeout_s / 4)),
      lives_(group.size(), options.timeout_s, options.least_still_s) {
  prepare_to_give_up();
  watcher_ = std::thread([this] { keep_watch(); });
  try {
    if (mail_ && group_.rank() == 0) messenger_ = std::thread([this] { listen(); });
    if (mail_ && group_.rank() != 0) messenger_ = std::thread([this] { tell(); });
  } catch (...) {  // no thread can be started
    end();
    throw;
  }
}

Watch::~Watch() {
  end();
}

void Watch::end() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  watcher_.join();
  if (messenger_.joinable()) messenger_.join();
}

Watch::Hold::Hold(Watch& watch, int chunk) : watch_(watch), chunk_(chunk) {
  std::lock_guard<std::mutex> lock(watch_.mutex_);
  watch_.holds_[chunk] = this;
}

Watch::Hold::~Hold() {
  counter_.enter({});  // its last stage has come to an end
  std::lock_guard<std::mutex> lock(watch_.mutex_);
  watch_.holds_.erase(chunk_);
}

void Watch::Hold::wait_behind(int other) {
  std::lock_guard<std::mutex> lock(watch_.mutex_);
  behind_ = other;
}

void Watch::look_after(Holdings holdings) {
  std::lock_guard<std::mutex> lock(mutex_);
  holdings_ = std::move(holdings);
}

void Watch::check(std::string_view op) {
  std::vector<Holding> held;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    op_ = op;
    if (group_.rank() == 0 && holdings_) held = holdings_();
  }
  std::erase_if(held, [](const Holding& one) { return one.rank == 0; });  // end_if_stuck
  for (const Holding& one : held)
    if (lives_.silent_s(one.rank, now_s_) > timeout_s_)
      throw make_error(kExitRequeue, expiry(timeout_s_, op, group_.step()), ": rank ",
                       group_.name(one.rank), " holds chunk ", one.chunk,
                       " and gives no sign of life");
  if (const auto still = lives_.worst(held); still && still->over())
    throw make_error(kExitRequeue, what_stands(*still));
}

Sign Watch::sign() const {
  Sign sign;
  sign.seen = stages_seen();
  sign.works.push_back({Sign::kOutside, outside_.value()});
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [chunk, hold] : holds_)
    sign.works.push_back({chunk, hold->counter_.value(), hold->behind_});
  return sign;
}

void Watch::keep_watch() {
  double looked_s = steady_clock_s();
  while (pause(period_s_ / 2)) {
    const double now_s = steady_clock_s();
    now_s_ = now_s_ + std::min(now_s - looked_s, kLongestTick);
    looked_s = now_s;
    lives_.heard(group_.rank(), sign(), now_s_);
    end_if_stuck();
  }
}

// Nobody else could end it: the others are told that this rank lives, and a thread that hangs
// cannot be waited for. Where rank 0 can name another rank, it has its time for that.
void Watch::end_if_stuck() const {
  const int rank = group_.rank();
  std::vector<Holding> own;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [chunk, hold] : holds_) own.push_back({chunk, rank, 0});
  }
  auto still = lives_.worst(own);
  if (!still || !still->over()) still = lives_.outside(rank);
  const bool left_to_others = rank != 0 || (still && still->chunk == Sign::kOutside);
  if (still && left_to_others && group_.size() > 1) still->limit_s += kMargin;
  if (still && still->over()) give_up("svfleet: " + what_stands(*still), kExitRequeue);
}

std::string Watch::what_stands(const Still& still) const {
  std::string op = "the run";
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (still.chunk != Sign::kOutside) op = op_;
  }
  std::ostringstream out;
  out << expiry(still.limit_s, op, group_.step()) << ": rank " << group_.name(still.rank)
      << " lives, but ";
  if (still.chunk != Sign::kOutside) out << "its chunk " << still.chunk << " ";
  out << "stands still in " << name_of(still.at.stage) << "; look at its disks and devices";
  if (still.limit_s >= timeout_s_) out << ", or choose a longer timeout_s";
  return out.str();
}

void Watch::tell() {
  try {
    do {
      mail_->send(0, kTag, sign().pack());
      int rank = 0, tag = kTag;
      std::string bytes;
      while (mail_->try_receive(&rank, &tag, &bytes)) lives_.heard(0, Sign::unpack(bytes), now_s_);
    } while (pause(period_s_));
  } catch (const Error&) {  // who waits for this rank names it
  }
}

void Watch::listen() {
  try {
    do {
      int rank = -1, tag = kTag;
      std::string bytes;
      while (mail_->try_receive(&rank, &tag, &bytes)) {
        lives_.heard(rank, Sign::unpack(bytes), now_s_);
        mail_->send(rank, kTag, sign().pack());
        rank = -1;
      }
    } while (pause(period_s_ / 20));
  } catch (const Error&) {  // then all others are silent
  }
}

bool Watch::pause(double seconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  return !changed_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return over_; });
}

}  // namespace svfleet
