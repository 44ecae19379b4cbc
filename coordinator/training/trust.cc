#include "coordinator/training/trust.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "comm/agreement.h"
#include "comm/error.h"
#include "coordinator/training/fork.h"

namespace svfleet {
namespace {

// What the run before left, as of a process that has read its weights anew and goes on after
// `step`.
CleanRecord begun_at(int64_t step, std::optional<CleanRecord> before, int64_t first) {
  CleanRecord record = before.value_or(CleanRecord{first, {}, ""});
  std::erase_if(record.unchecked, [&](const auto& steps) { return steps.first >= step; });
  for (auto& [from, to] : record.unchecked) to = std::min(to, step);
  if (step > record.step) record.unchecked.emplace_back(record.step, step);
  record.step = step;
  return record;
}

// One a line, each once: those of the ranks that have said something.
std::string hosts_of(const std::vector<std::string>& said, const std::vector<std::string>& hosts) {
  std::string lines;
  std::set<std::string> seen;
  for (size_t rank = 0; rank < said.size(); ++rank)
    if (!said[rank].empty() && seen.insert(hosts[rank]).second) lines += hosts[rank] + "\n";
  return lines;
}

}  // namespace

Trust::Trust(const Base& base, Crew& crew, RunFolder& folder, Narrator& narrator,
             const RunState& state)
    : crew_(crew), folder_(folder), narrator_(narrator), watch_(frozen(base), crew, state.step) {
  if (!crew.leads()) return;
  const auto before = read_clean(folder.path());
  const auto parent = lineage(state.parent);
  clean_ = begun_at(state.step, before, parent ? parent->step : 0);
  if (before && state.step > before->step)
    spdlog::info(
        "steps {} to {} are of a process that ended before it had looked at its weights again",
        before->step + 1, state.step);
  if (before != clean_) write_clean(folder.path(), clean_);
}

void Trust::note() {
  if (watch_.clean_step() == clean_.step) return;
  clean_.step = watch_.clean_step();
  write_clean(folder_.path(), clean_);
}

void Trust::act_on(const std::string& change, int64_t step) {
  if (change.empty()) return;
  const int64_t clean_step = watch_.clean_step();
  // None may come after they are removed.
  crew_.together("finish writing chunks", [&] { folder_.journal().flush(); });
  const std::vector<std::string> here =
      crew_.group().gather(watch_.changed_here() ? "1" : "", "find changed memory");
  std::string told;  // the hosts of all such ranks, one a line
  if (crew_.leads()) {
    told = hosts_of(here, crew_.hosts());
    clean_.step = clean_step;
    clean_.changed = change;
    const std::vector<std::string> moved = set_suspects_aside(folder_.path(), clean_);
    narrator_.event("suspect",
                    {{"changed", change}, {"clean_step", clean_step}, {"set_aside", moved}});
  }
  // Only now: a rank that ends takes rank 0 with it.
  crew_.group().broadcast(told, 0, "set suspect checkpoints aside");
  std::istringstream lines(told);
  std::vector<std::string> hosts;
  for (std::string host; std::getline(lines, host);) hosts.push_back(host);
  const std::string text = change + " changed in memory by step " + std::to_string(step) +
                           ": bad memory; what was made after step " + std::to_string(clean_step) +
                           " is set aside as *.suspect; start again to go on from there, and leave "
                           "out that host if this comes again";
  throw AgreedError(kExitRequeue, text, hosts);
}

}  // namespace svfleet
