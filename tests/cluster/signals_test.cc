// Signals set a flag; each case in a process of its own, because handlers belong to the process.
#include "cluster/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
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
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT, SIGHUP, SIGPIPE}) {
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

// nohup, and a parent that wants to see EPIPE.
TEST(Signals, AnIgnoredHangUpStaysIgnored) {
  for (const int signal : {SIGHUP, SIGPIPE})
    EXPECT_EQ(exit_code_of([&] {
                std::signal(signal, SIG_IGN);
                install_signal_handlers();
                raise(signal);
                if (stop_requested()) return 1;
                raise(SIGTERM);  // control
                return stop_requested() ? 0 : 2;
              }),
              0);
  EXPECT_EQ(exit_code_of([] {
              std::signal(SIGHUP, SIG_IGN);
              end_at_signals();
              raise(SIGHUP);
              return 0;
            }),
            0);
}

TEST(Signals, ABlockedOneThatWaitsIsLetIn) {
  EXPECT_EQ(exit_code_of([] {
              sigset_t set;
              sigemptyset(&set);
              sigaddset(&set, SIGINT);
              pthread_sigmask(SIG_BLOCK, &set, nullptr);
              raise(SIGINT);
              install_signal_handlers();
              return stop_requested() ? 0 : 1;
            }),
            0);
}

// What a child that ends at a signal has written to standard error.
std::string last_words_of(int signal, const std::function<void()>& prepare) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const int status = status_of([&] {
    dup2(ends[1], STDERR_FILENO);
    prepare();
    raise(signal);
    raise(signal);
    return 0;
  });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << status;
  close(ends[1]);
  std::string text(1000, '\0');
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, read(ends[0], text.data(), text.size()))));
  close(ends[0]);
  return text;
}

TEST(Signals, WhoIsEndedSaysItsLastWords) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP})
    EXPECT_EQ(last_words_of(signal,
                            [] {
                              set_last_words("nothing was changed");
                              set_last_words("job 17 is handed in");
                              end_at_signals();
                            }),
              "job 17 is handed in\n");
  EXPECT_EQ(last_words_of(SIGINT,
                          [] {
                            set_last_words("finished chunks are kept");
                            install_signal_handlers();
                          }),
            "finished chunks are kept\n");
  EXPECT_EQ(last_words_of(SIGINT, [] { end_at_signals(); }), "");
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
