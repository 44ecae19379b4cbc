#include "coordinator/crew/preflight.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>
#include <sstream>

#include "checkpoints/file.h"
#include "comm/clock.h"
#include "comm/counted.h"
#include "comm/error.h"
#include "coordinator/crew/disk_space.h"

namespace svfleet {
namespace {

constexpr double kSkewWarning = 5;
constexpr size_t kSumNumbers = (1 << 20) / sizeof(int64_t), kMaxNumbers = 1 << 14;

// splitmix64: the values of different ranks have nothing in common.
uint64_t mixed(uint64_t key) {
  key += 0x9e3779b97f4a7c15;
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9;
  key = (key ^ (key >> 27)) * 0x94d049bb133111eb;
  return key ^ (key >> 31);
}

// 40 bits with a sign: the sum of eight million ranks fits.
int64_t sum_value(int rank, size_t i) {
  return (int64_t(mixed(uint64_t(rank) * kSumNumbers + i)) >> 24);
}

int32_t max_value(int rank, size_t i) {
  return int32_t(mixed(~(uint64_t(rank) * kMaxNumbers + i)) >> 32);
}

}  // namespace

std::string Preflight::line() const {
  std::ostringstream out;
  out << "preflight: " << counted(ranks, "rank") << " on " << counted(hosts, "host") << ", ";
  char text[96];
  if (ranks > 1) {
    std::snprintf(text, sizeof text, "all-reduce of 1 MiB in %.1f ms, clocks within %.2g s, ",
                  reduce_s * 1e3, clocks_s);
    out << text;
  }
  out << size_text(free_bytes) << " free";
  if (gpu_free_bytes) out << ", " << size_text(gpu_free_bytes) << " free on the GPU";
  return out.str();
}

nlohmann::json Preflight::to_json() const {
  nlohmann::json out = {{"ranks", ranks}, {"hosts", hosts}, {"free_bytes", free_bytes}};
  if (ranks > 1) {
    out["all_reduce_s"] = reduce_s;
    out["slowest_rank"] = slowest_rank;
    out["clocks_within_s"] = clocks_s;
  }
  if (gpu_free_bytes) out["gpu_free_bytes"] = gpu_free_bytes;
  return out;
}

Preflight preflight_run(const Config& config, int64_t start_step, bool fresh, Crew& crew) {
  Group& group = crew.group();
  Preflight result;
  result.gpu_free_bytes = check_device(crew.device(), group.host());
  if (crew.leads()) {
    check_disks(config, start_step, fresh, group.host());
    result.free_bytes = free_bytes(config.run_dir);
  }
  result.ranks = crew.ranks();
  if (crew.ranks() == 1) return result;
  const std::vector<std::string>& hosts = crew.hosts();
  result.hosts = int(std::set(hosts.begin(), hosts.end()).size());
  for (const std::string& line : compare_clocks(group, wall_clock_s, &result.clocks_s))
    spdlog::warn("{}", line);
  const SumCheck sums = check_sums(group, crew.reducer());
  result.reduce_s = sums.seconds;
  result.slowest_rank = sums.slowest_rank;
  return result;
}

void preflight_decompose(const Config& config, Crew& crew) {
  check_device(crew.device(), crew.group().host());
  if (crew.leads()) check_store_disk(config, crew.group().host());
}

double certain_skew_s(double clock, double before, double after) {
  return clock < before ? clock - before : clock > after ? clock - after : 0;
}

double largest_skew_s(double clock, double before, double after) {
  return std::max(std::abs(clock - before), std::abs(clock - after));
}

std::vector<std::string> compare_clocks(Group& group, double (*clock)(), double* most_s) {
  // Rank 0's word goes out after `before`, so no rank reads its clock earlier, and every answer is
  // in before `after`.
  const double before = clock();
  std::string go = "now";
  group.broadcast(go, 0, "preflight clocks");
  char now[64];
  std::snprintf(now, sizeof now, "%.6f", clock());
  const std::vector<std::string> answers = group.gather(now, "preflight clocks");
  const double after = clock();
  *most_s = 0;
  std::vector<std::string> lines;
  for (size_t rank = 1; rank < answers.size(); ++rank) {
    const double theirs = std::stod(answers[rank]);
    *most_s = std::max(*most_s, largest_skew_s(theirs, before, after));
    const double skew = certain_skew_s(theirs, before, after);
    if (std::abs(skew) <= kSkewWarning) continue;
    char text[64];
    std::snprintf(text, sizeof text, "%.1f s %s", std::abs(skew), skew < 0 ? "behind" : "ahead of");
    lines.push_back("the clock of rank " + group.name(int(rank)) + " is " + text +
                    " that of rank " + group.name(0) +
                    ", which times the run; mend that host's time service");
  }
  return lines;
}

SumCheck check_sums(Group& group, Reducer& reducer) {
  const int rank = group.rank(), size = group.size();
  std::vector<int32_t> most(kMaxNumbers);
  for (size_t i = 0; i < most.size(); ++i) most[i] = max_value(rank, i);
  group.all_reduce_max(most, "preflight maximum");  // also opens the connections
  std::vector<int64_t> sums(kSumNumbers);
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = sum_value(rank, i);
  group.barrier("preflight sum");
  const double start = steady_clock_s();
  reducer.sum(sums, "preflight sum");
  const double seconds = steady_clock_s() - start;

  size_t wrong = 0;
  for (size_t i = 0; i < most.size(); ++i) {
    int32_t expected = max_value(0, i);
    for (int r = 1; r < size; ++r) expected = std::max(expected, max_value(r, i));
    wrong += most[i] != expected;
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    int64_t expected = 0;
    for (int r = 0; r < size; ++r) expected += sum_value(r, i);
    wrong += sums[i] != expected;
  }
  const std::vector<std::string> told =
      group.gather(std::to_string(wrong) + " " + std::to_string(seconds), "preflight sum");
  SumCheck check;
  std::string verdict;
  for (size_t r = 0; r < told.size(); ++r) {
    std::istringstream in(told[r]);
    size_t bad = 0;
    double took = 0;
    in >> bad >> took;
    if (bad > 0) verdict += (verdict.empty() ? "" : ", ") + group.name(int(r));
    if (took >= check.seconds) {
      check.seconds = took;
      check.slowest_rank = int(r);
    }
  }
  group.broadcast(verdict, 0, "preflight sum");
  if (!verdict.empty())
    throw make_error(
        kExitRequeue, "preflight: an all-reduce of 1 MiB with a known result came out ",
        "wrong on rank ", verdict,
        ": a bad node or link; leave out that host (submit --exclude) and start again");
  return check;
}

}  // namespace svfleet
