// Progress on stderr: one line with rate and time left that is updated in place on a terminal, a
// plain line now and then elsewhere.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace svfleet {

// Writes a whole line to stderr, above the progress line if one is shown. Thread-safe.
void print_line(std::string_view line);

// No Progress is shown any more (--quiet).
void hide_progress();

struct ProgressOptions {
  std::string label = {};  // "train"
  std::string unit = {};   // "steps"
  int64_t total = 0;       // 0 = unknown: no share and no time left
  int64_t before = 0;      // done already when this process started; not counted in the rate
  bool shown = true;       // false: another rank than 0, or --quiet

  // For tests; the defaults are stderr, its width, and a steady clock in seconds.
  std::function<void(std::string_view)> write = {};
  std::function<int()> width = {};  // of the terminal in columns; 0 = not a terminal
  std::function<double()> clock = {};
};

// Thread-safe. At most one is shown at a time: the newest; when it ends, the one before goes on.
// They end in the opposite order of their making.
class Progress {
 public:
  explicit Progress(ProgressOptions options);
  ~Progress();  // leaves the last state on the screen
  Progress(const Progress&) = delete;

  // `done` counts from 0, `before` included. `note` follows the numbers: "accuracy 0.81".
  // With the same number it draws again if time has passed: time left keeps moving while nothing
  // finishes.
  void update(int64_t done, std::string_view note = "");
  // The last line, with the whole time. Called by the destructor too.
  void finish();

 private:
  friend void print_line(std::string_view line);
  struct State;
  std::unique_ptr<State> state_;
};

// 75 -> "1:15", 3700 -> "1:01:40", 100000 -> "1d 3:46:40".
std::string time_text(double seconds);

}  // namespace svfleet
