#include "cluster/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace svfleet {
namespace {

// Lock-free, so that a handler may touch them.
std::atomic<bool> stop{false};
std::atomic<int> first_signal{0};
std::atomic<int> interrupts{0};
static_assert(std::atomic<int>::is_always_lock_free);

void on_signal(int signal) {
  stop = true;
  int none = 0;
  first_signal.compare_exchange_strong(none, signal);
  if (signal == SIGINT && ++interrupts >= 2) {
    // Die of the signal itself, so that a shell sees an interrupted program. It is blocked while
    // this handler runs and arrives when it returns.
    std::signal(SIGINT, SIG_DFL);
    raise(SIGINT);
  }
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;  // no read or write of a file ends early because of it
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT}) sigaction(signal, &action, nullptr);
}

bool stop_requested() {
  return stop;
}

const char* stop_signal_name() {
  switch (first_signal) {
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGINT:
      return "SIGINT";
    default:
      return "";
  }
}

void request_stop() {
  stop = true;
}

}  // namespace svfleet
