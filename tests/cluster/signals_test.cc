// Signals set a flag; each case in a process of its own, because handlers belong to the process.
#include "cluster/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>

namespace svfleet {
namespace {

// The wait status of a child that runs `body` and exits with what it returns.
int status_of(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

int exit_code_of(const std::function<int()>& body) {
  const int status = status_of(body);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(Signals, SetTheFlagAndNothingElse) {
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT}) {
    EXPECT_EQ(exit_code_of([&] {
                install_signal_handlers();
                if (stop_requested() || *stop_signal_name()) return 1;
                raise(signal);
                if (!stop_requested()) return 2;
                const std::string expected = std::string("SIG") + sigabbrev_np(signal);
                return stop_signal_name() == expected ? 0 : 3;
              }),
              0);
  }
}

TEST(Signals, ControlWithoutHandlersTheProcessDies) {
  EXPECT_EQ(exit_code_of([] {
              raise(SIGTERM);
              return 0;
            }),
            -SIGTERM);
}

TEST(Signals, ASecondInterruptEndsAtOnce) {
  EXPECT_EQ(exit_code_of([] {
              install_signal_handlers();
              raise(SIGINT);
              raise(SIGINT);
              return 0;
            }),
            -SIGINT);
  // Other signals may come as often as they like.
  EXPECT_EQ(exit_code_of([] {
              install_signal_handlers();
              for (int i = 0; i < 3; ++i) raise(SIGTERM);
              raise(SIGUSR1);
              raise(SIGINT);
              return std::string(stop_signal_name()) == "SIGTERM" ? 0 : 1;
            }),
            0);
}

TEST(Signals, AThreadMayAsk) {
  EXPECT_EQ(exit_code_of([] {
              std::thread([] { request_stop(); }).join();
              return stop_requested() && !*stop_signal_name() ? 0 : 1;
            }),
            0);
}

TEST(Signals, DoNotCutASleepingRead) {
  EXPECT_EQ(exit_code_of([] {
              install_signal_handlers();
              int ends[2];
              if (pipe(ends) != 0) return 1;
              std::thread later([&] {
                usleep(50000);
                kill(getpid(), SIGUSR1);
                usleep(50000);
                if (write(ends[1], "x", 1) != 1) _exit(2);
              });
              char byte = 0;
              const ssize_t got = read(ends[0], &byte, 1);
              later.join();
              return got == 1 && stop_requested() ? 0 : 3;
            }),
            0);
}

}  // namespace
}  // namespace svfleet
