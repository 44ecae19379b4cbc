#include "cluster/program.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>

extern char** environ;

namespace svfleet {
namespace {

constexpr int kLooksAtKilled = 2000;  // a millisecond apart

bool matches(const std::string& variable, const std::string& name) {
  if (name.back() == '*')
    return variable.compare(0, name.size() - 1, name, 0, name.size() - 1) == 0;
  return variable.compare(0, name.size() + 1, name + "=") == 0;
}

}  // namespace

Answer run_program(const std::vector<std::string>& words, double timeout_s,
                   const std::vector<std::string>& without) {
  Answer answer;
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0) return answer;
  if (pipe2(err, O_CLOEXEC) != 0) {
    close(out[0]);
    close(out[1]);
    return answer;
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  std::vector<char*> arguments;
  for (const auto& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::vector<std::string> kept_back = {"SQUEUE_*", "SINFO_*", "SCONTROL_*", "SLURM_TIME_FORMAT"};
  kept_back.insert(kept_back.end(), without.begin(), without.end());
  std::vector<char*> variables;
  for (char** variable = environ; *variable; ++variable)
    if (std::none_of(kept_back.begin(), kept_back.end(),
                     [&](const std::string& name) { return matches(*variable, name); }))
      variables.push_back(*variable);
  variables.push_back(nullptr);
  pid_t child = -1;
  const bool started = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(),
                                    variables.data()) == 0;
  answer.started = started;
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  close(err[1]);
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::duration<double>(timeout_s);
  pollfd ends[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
  std::string* texts[2] = {&answer.out, &answer.err};
  bool timed_out = false;
  while (started && (ends[0].fd >= 0 || ends[1].fd >= 0)) {
    const double left = std::chrono::duration<double>(deadline - Clock::now()).count();
    if (left <= 0 || (poll(ends, 2, static_cast<int>(left * 1000) + 1) < 0 && errno != EINTR)) {
      timed_out = true;
      break;
    }
    for (int i = 0; i < 2; ++i) {
      if (ends[i].fd < 0 || !(ends[i].revents & (POLLIN | POLLHUP | POLLERR))) continue;
      char buffer[4096];
      const ssize_t got = read(ends[i].fd, buffer, sizeof buffer);
      if (got > 0 && texts[i]->size() < 65536)
        texts[i]->append(buffer, static_cast<size_t>(got));
      else if (got == 0 || (got < 0 && errno != EINTR))
        ends[i].fd = -1;  // poll ignores it from here on
      ends[i].revents = 0;
    }
  }
  close(out[0]);
  close(err[0]);
  if (!started) return answer;
  // Both outputs are closed, or time is over; a program that closed them and goes on is killed too.
  int status = 0;
  while (!timed_out && waitpid(child, &status, WNOHANG) == 0) {
    timed_out = Clock::now() >= deadline;
    usleep(1000);
  }
  if (timed_out) {
    kill(child, SIGKILL);
    // One that waits for a disk that hangs does not die: it is left behind.
    for (int looks = 0; looks < kLooksAtKilled && waitpid(child, &status, WNOHANG) == 0; ++looks)
      usleep(1000);
    return answer;
  }
  answer.complete = true;
  answer.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return answer;
}

}  // namespace svfleet
