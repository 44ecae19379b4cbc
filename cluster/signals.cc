#include "cluster/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <deque>
#include <initializer_list>

namespace svfleet {
namespace {

// Lock-free, so that a handler may touch them.
std::atomic<bool> stop{false};
std::atomic<int> first_signal{0};
std::atomic<int> interrupts{0};
std::atomic<const std::string*> last_words{nullptr};
static_assert(std::atomic<int>::is_always_lock_free);
static_assert(std::atomic<const std::string*>::is_always_lock_free);

// Of the signal itself, so that a shell sees an interrupted program. It is blocked while its
// handler runs and arrives when that returns.
void die_of(int signal) {
  if (const std::string* words = last_words)
    if (write(STDERR_FILENO, words->data(), words->size()) < 0) {
    }  // nobody listens
  std::signal(signal, SIG_DFL);
  raise(signal);
}

void on_signal(int signal) {
  stop = true;
  int none = 0;
  first_signal.compare_exchange_strong(none, signal);
  if (signal == SIGINT && ++interrupts >= 2) die_of(SIGINT);
}

// A pipe whose reader is gone: writing to it fails, and that is said where results are printed. No
// SIG_IGN, which programs that are started from here would inherit.
void on_closed_pipe(int) {}

void handle(std::initializer_list<int> signals, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;  // no read or write of a file ends early because of it
  sigset_t ours;
  sigemptyset(&ours);
  for (const int signal : signals) {
    struct sigaction before {};
    const bool may_be_ignored = signal == SIGHUP || signal == SIGPIPE;
    if (may_be_ignored && sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_IGN)
      continue;
    sigaction(signal, &action, nullptr);
    sigaddset(&ours, signal);
  }
  pthread_sigmask(SIG_UNBLOCK, &ours, nullptr);
}

}  // namespace

void install_signal_handlers() {
  handle({SIGTERM, SIGUSR1, SIGINT, SIGHUP, SIGPIPE}, on_signal);
}

void end_at_signals() {
  handle({SIGTERM, SIGINT, SIGHUP}, die_of);
  handle({SIGPIPE}, on_closed_pipe);
}

void set_last_words(const std::string& line) {
  // A handler may be reading the ones before, and while the program exits: they stay for ever.
  static auto& all = *new std::deque<std::string>;
  if (line.empty())
    last_words = nullptr;
  else
    last_words = &all.emplace_back(line + "\n");
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
    case SIGHUP:
      return "SIGHUP";
    case SIGPIPE:
      return "SIGPIPE";
    default:
      return "";
  }
}

void request_stop() {
  stop = true;
}

}  // namespace svfleet
