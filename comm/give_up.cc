#include "comm/give_up.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace svfleet {
namespace {

constexpr int kPatienceMs = 5000;

std::atomic<int> code_at_end{0};
std::atomic<bool> said{false};

void* end_process(void*) {
  for (int waited = 0; waited < kPatienceMs && !said; waited += 10) usleep(10'000);
  _exit(code_at_end);
}

}  // namespace

void give_up(std::string_view line, int code) {
  code_at_end = code;
  pthread_t thread;
  if (pthread_create(&thread, nullptr, end_process, nullptr) != 0) _exit(code);
  iovec parts[2] = {{const_cast<char*>(line.data()), line.size()}, {const_cast<char*>("\n"), 1}};
  if (writev(STDERR_FILENO, parts, 2) >= 0) said = true;
  while (true) pause();
}

void prepare_to_give_up() {
  for (const auto code :
       {reinterpret_cast<uintptr_t>(&end_process), reinterpret_cast<uintptr_t>(&give_up)}) {
    const uintptr_t page = code & ~uintptr_t{4095};
    mlock(reinterpret_cast<void*>(page), 2 * 4096);  // refused: no worse than without
  }
}

}  // namespace svfleet
