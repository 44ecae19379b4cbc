// Usage: bench_journal FOLDER. What the journal costs: names in the folder, calls at the FileSystem
// seam, and seconds that whoever computes waits, to write, read and clear 4,096 chunks of 100
// bytes, and 64 of 7.9 MB, one right behind the other and with a quarter of a second of work before
// each. Figures: docs/performance.md.
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "checkpoints/file.h"
#include "checkpoints/journal.h"
#include "checkpoints/owner.h"
#include "checkpoints/process.h"
#include "comm/clock.h"
#include "tests/checkpoints/interrupted_disk.h"

namespace svfleet {
namespace {

// Since it was last asked.
struct Meter {
  InterruptedDisk disk;
  Stopwatch watch{};
  int64_t before = 0;
  void tell(const char* what, double waited_s = -1) {
    const double seconds = watch.lap();
    std::printf("  %-6s %6ld calls, %7.3f s", what, long(disk.calls - before), seconds);
    if (waited_s >= 0) std::printf(", of which %.3f s of waiting", waited_s);
    std::printf("\n");
    before = disk.calls;
    watch.lap();
  }
};

void measure(const std::string& run, int records, size_t gradient, double work_s) {
  std::filesystem::remove_all(run);
  const Owner owner = Owner::take(run, {host_name(), getpid(), "", 0, ""});
  const WriteGuard guard(run, [&] { owner.verify(); });
  FinishedChunk chunk;
  chunk.z_hash = "0123456789abcdef0123456789abcdef";
  chunk.gradient.assign(gradient, 1.5f);
  chunk.counts = {1, 2};
  chunk.sums = {0.5};
  chunk.texts = "[]";
  std::printf("%d chunks, gradient of %zu numbers, %.2f s of work before each:\n", records,
              gradient, work_s);
  Meter meter;
  double waited_s = 0;
  {
    Journal journal(run, chunk.z_hash, owner.identity().token, 0);
    for (chunk.chunk = 0; chunk.chunk < records; ++chunk.chunk) {
      usleep(useconds_t(1e6 * work_s));
      const double start = steady_clock_s();
      journal.add(chunk);
      waited_s += steady_clock_s() - start;
    }
    const double start = steady_clock_s();
    journal.flush();
    waited_s += steady_clock_s() - start;
  }
  meter.tell("write", waited_s);
  std::printf("  %zu names\n", list_folder(run + "/chunks").size());
  Journal journal(run, chunk.z_hash, "next", 0);
  std::vector<std::string> ignored;
  SVFLEET_CHECK(int(journal.read(0, chunk.z_hash, &ignored).size()) == records, ignored.size());
  meter.tell("read");
  const double start = steady_clock_s();
  journal.checkpointed(1);
  waited_s = steady_clock_s() - start;
  journal.flush();
  SVFLEET_CHECK(list_folder(run + "/chunks").empty(), run);
  meter.tell("clear", waited_s);
}

}  // namespace
}  // namespace svfleet

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: bench_journal FOLDER\n");
    return 2;
  }
  svfleet::measure(argv[1], 4096, 16, 0);
  svfleet::measure(argv[1], 64, 1'975'000, 0);
  svfleet::measure(argv[1], 64, 1'975'000, 0.25);
  std::filesystem::remove_all(argv[1]);
  return 0;
}
