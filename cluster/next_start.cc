#include "cluster/next_start.h"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "comm/error.h"

namespace svfleet {
namespace {

std::vector<std::string> but_for(const std::vector<std::string>& nodes,
                                 const std::vector<std::string>& without) {
  std::vector<std::string> left;
  for (const std::string& node : nodes)
    if (std::find(without.begin(), without.end(), node) == without.end()) left.push_back(node);
  return left;
}

// What Slurm calls these hosts: a machine may call itself by a longer name, n2.example.org, or a
// shorter one. Those that are no node of the allocation are left out.
std::vector<std::string> as_nodes(const std::vector<std::string>& hosts,
                                  const std::vector<std::string>& nodes) {
  std::vector<std::string> found;
  for (const std::string& host : hosts)
    for (const std::string& node : nodes)
      if (host == node || host.starts_with(node + ".") || node.starts_with(host + ".")) {
        found.push_back(node);
        break;
      }
  return found;
}

std::string list(const std::vector<std::string>& nodes) {
  std::string text;
  for (const std::string& node : nodes) text += (text.empty() ? "" : ",") + node;
  return text.empty() ? "-" : text;
}

}  // namespace

NextStart next_start(const RunDecision& decision, const Allocation& allocation,
                     const std::function<std::vector<std::string>()>& nodes_up) {
  const std::vector<std::string> at_fault = as_nodes(decision.at_fault, allocation.nodes);
  const bool known = at_fault.size() == decision.at_fault.size();
  const auto left = int64_t(but_for(allocation.nodes, at_fault).size());
  if (decision.by_host && known && left > 0 && allocation.asked > 0 && 2 * left >= allocation.asked)
    return {true, left, at_fault};
  NextStart next{false, 0, allocation.exclude};
  if (at_fault.empty()) return next;
  const auto others = but_for(but_for(nodes_up(), at_fault), allocation.exclude);
  // As many as this job has: a spare node is worth waiting for no more than any other. One more
  // where the job could go on with the hosts at fault: Slurm keeps to the list when it requeues the
  // job by itself, and a job that waits for the only nodes left waits for the next one to be
  // mended.
  if (others.size() < allocation.nodes.size() + (decision.by_host ? 0 : 1)) return next;
  next.without.insert(next.without.end(), at_fault.begin(), at_fault.end());
  return next;
}

std::string in_words(const RunDecision& decision, const NextStart& next) {
  if (decision.taken_over) return "leave";
  if (decision.code != kExitRequeue) return "end";
  if (next.here) return "again " + std::to_string(next.nodes) + " " + list(next.without);
  return "requeue " + list(next.without);
}

std::vector<std::string> nodes_up(const std::string& sinfo, const std::vector<std::string>& like) {
  // With a sign after it (* ~ # ! % $ @ ^ -) a node does not answer, is off, or is to be restarted.
  static const std::set<std::string> states = {"idle", "mixed", "allocated", "completing"};
  std::map<std::string, std::string> up;  // with its kind
  std::set<std::string> kinds;
  std::istringstream lines(sinfo);
  for (std::string line; std::getline(lines, line);) {
    std::string node, state, kind;
    std::istringstream words(line);
    words >> node >> state >> kind;
    if (std::find(like.begin(), like.end(), node) != like.end()) kinds.insert(kind);
    if (states.count(state)) up[node] = kind;
  }
  std::vector<std::string> found;
  for (const auto& [node, kind] : up)
    if (kinds.count(kind)) found.push_back(node);
  return found;
}

}  // namespace svfleet
