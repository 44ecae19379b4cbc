#include "coordinator/run/progress.h"

#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "comm/clock.h"
#include "comm/stage.h"

namespace svfleet {
namespace {

constexpr double kRedrawSeconds = 0.1;    // on a terminal
constexpr double kPlainSeconds = 10;      // elsewhere: a line when so much time has passed ...
constexpr double kPlainShare = 0.1;       // ... or so much of the work, whichever comes later
constexpr double kPlainLeastSeconds = 1;  // except that short work gets few lines

std::mutex mutex;  // of all state here, and of stderr
Progress* on_screen = nullptr;
bool hidden = false;

// A person may hold a terminal or a pager for as long as they like; a file that does not take a
// line is on a disk that hangs.
bool stderr_is_a_file() {
  struct stat info;
  return fstat(STDERR_FILENO, &info) == 0 && S_ISREG(info.st_mode);
}

void write_to_stderr(std::string_view text) {
  const InStage writing(stderr_is_a_file() ? Stage::kTelling : Stage::kWaiting);
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written <= 0) return;  // progress that cannot be shown is no reason to stop
    text.remove_prefix(static_cast<size_t>(written));
  }
}

int width_of_stderr() {
  const char* term = std::getenv("TERM");
  if (!isatty(STDERR_FILENO) || (term && std::string_view(term) == "dumb")) return 0;
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

// At most `columns` characters (UTF-8: code points).
std::string cut(const std::string& text, int columns) {
  int count = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool starts = (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    if (starts && ++count > columns) return text.substr(0, i);
  }
  return text;
}

std::string rate_text(double rate, const std::string& unit) {
  char buffer[64];
  if (rate <= 0) return "";
  if (rate >= 1 || unit.empty()) {
    std::snprintf(buffer, sizeof buffer, rate < 10 ? "%.2f/s" : "%.0f/s", rate);
  } else {
    std::snprintf(buffer, sizeof buffer, "%.1f s each", 1 / rate);
  }
  return buffer;
}

}  // namespace

std::string time_text(double seconds) {
  const auto whole = static_cast<long long>(std::min(std::max(seconds, 0.0), 1e15) + 0.5);
  const long long days = whole / 86400, hours = whole / 3600 % 24, minutes = whole / 60 % 60;
  char buffer[64];
  if (days > 0)
    std::snprintf(buffer, sizeof buffer, "%lldd %lld:%02lld:%02lld", days, hours, minutes,
                  whole % 60);
  else if (hours > 0)
    std::snprintf(buffer, sizeof buffer, "%lld:%02lld:%02lld", hours, minutes, whole % 60);
  else
    std::snprintf(buffer, sizeof buffer, "%lld:%02lld", minutes, whole % 60);
  return buffer;
}

struct Progress::State {
  Progress* below = nullptr;  // on the screen before this one
  ProgressOptions options;
  double start = 0;
  int64_t done = 0;
  std::string note;
  bool finished = false;
  bool drawn = false;    // a line stands on the terminal without an end
  double last_draw = 0;  // time of the last drawing or plain line
  double last_plain_share = 0;
  bool any_drawn = false;

  double share() const {
    return options.total > 0 ? static_cast<double>(done) / static_cast<double>(options.total) : 0;
  }

  std::string text(double now, int columns) const {
    const double elapsed = now - start;
    const auto here = static_cast<double>(done - options.before);
    const double rate = elapsed > 0 ? here / elapsed : 0;
    std::string line = options.label.empty() ? "" : options.label + "  ";
    if (columns >= 60 && options.total > 0 && !finished) {
      constexpr int kBar = 20;
      const int full = static_cast<int>(std::clamp(share(), 0.0, 1.0) * kBar);
      line += "[" + std::string(full, '#') + std::string(kBar - full, '.') + "]  ";
    }
    line += std::to_string(done);
    if (options.total > 0) line += "/" + std::to_string(options.total);
    if (!options.unit.empty()) line += " " + options.unit;
    if (const std::string rated = rate_text(rate, options.unit); !rated.empty())
      line += "  " + rated;
    if (finished)
      line += "  in " + time_text(elapsed);
    else if (options.total > done && rate > 0)
      line += "  " + time_text(static_cast<double>(options.total - done) / rate) + " left";
    if (!note.empty()) line += "  " + note;
    return columns > 0 ? cut(line, columns - 1) : line;
  }

  void erase() {
    if (drawn) options.write("\r\x1b[K");
    drawn = false;
  }

  // `force`: whatever the time.
  void draw(bool force) {
    const double now = options.clock();
    const int columns = options.width();
    if (columns > 0) {
      if (!force && any_drawn && now - last_draw < kRedrawSeconds) return;
      options.write("\r" + text(now, columns) + "\x1b[K" + (finished ? "\n" : ""));
      drawn = !finished;
    } else {
      const bool due =
          now - last_draw >= kPlainSeconds ||
          (now - last_draw >= kPlainLeastSeconds && share() - last_plain_share >= kPlainShare);
      if (!force && any_drawn && !due) return;
      options.write(text(now, 0) + "\n");
      last_plain_share = share();
    }
    any_drawn = true;
    last_draw = now;
  }
};

Progress::Progress(ProgressOptions options) : state_(std::make_unique<State>()) {
  state_->options = std::move(options);
  auto& o = state_->options;
  if (!o.write) o.write = write_to_stderr;
  if (!o.width) o.width = width_of_stderr;
  if (!o.clock) o.clock = steady_clock_s;
  state_->start = o.clock();
  state_->done = o.before;
  const std::lock_guard lock(mutex);
  if (o.shown && !hidden) {
    if (on_screen) on_screen->state_->erase();
    state_->below = on_screen;
    on_screen = this;
    state_->draw(true);
  }
}

Progress::~Progress() {
  finish();
}

void Progress::update(int64_t done, std::string_view note) {
  const std::lock_guard lock(mutex);
  state_->done = done;
  if (!note.empty()) state_->note = note;
  if (on_screen == this) state_->draw(false);
}

void Progress::finish() {
  const std::lock_guard lock(mutex);
  if (state_->finished) return;
  state_->finished = true;
  if (on_screen != this) return;
  state_->draw(true);
  on_screen = state_->below;  // work inside other work: the outer line goes on
}

void hide_progress() {
  const std::lock_guard lock(mutex);
  hidden = true;
}

void print_line(std::string_view line) {
  const std::lock_guard lock(mutex);
  const std::string text = std::string(line) + "\n";
  if (!on_screen) {
    write_to_stderr(text);
    return;
  }
  Progress::State& state = *on_screen->state_;
  const bool was_drawn = state.drawn;
  state.erase();
  state.options.write(text);
  if (was_drawn) state.draw(true);
}

}  // namespace svfleet
