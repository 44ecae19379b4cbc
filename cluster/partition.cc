#include "cluster/partition.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <sstream>

#include "cluster/program.h"
#include "comm/error.h"

namespace svfleet {
namespace {

std::optional<int64_t> count_of(const std::string& text) {
  int64_t value = 0;
  // sinfo writes "64+" for nodes that are alike but for more of something.
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || std::string(end).find_first_not_of('+') != std::string::npos)
    return std::nullopt;
  return value;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

struct Gres {
  std::string name, type;
  int64_t count = 1;
};

// "gpu", "gpu:2", "gpu:a100:2", "gpu:a100:4(S:0-1)".
Gres parse_gres(const std::string& text) {
  Gres gres;
  const std::vector<std::string> parts = split(text.substr(0, text.find('(')), ':');
  if (!parts.empty()) gres.name = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) {
    if (const auto count = count_of(parts[i]))
      gres.count = *count;
    else
      gres.type = parts[i];
  }
  return gres;
}

bool offers(const NodeKind& kind, const std::string& wanted) {
  for (const std::string& one : split(wanted, ',')) {
    const Gres want = parse_gres(one);
    int64_t have = 0;
    for (const std::string& text : split(kind.gres, ',')) {
      const Gres gres = parse_gres(text);
      if (gres.name == want.name && (want.type.empty() || gres.type == want.type))
        have += gres.count;
    }
    if (have < want.count) return false;
  }
  return true;
}

std::string spoken(int64_t seconds) {
  const int64_t minutes = seconds / 60;
  if (minutes % 1440 == 0) return std::to_string(minutes / 1440) + " days";
  if (minutes % 60 == 0) return std::to_string(minutes / 60) + " hours";
  return std::to_string(minutes) + " minutes";
}

void check_one(const JobRequest& ask, const Partition& there) {
  const std::string name = "partition '" + there.name + "'";
  if (there.state != "UP")
    throw user_error(name, " is ", there.state,
                     ": no job starts there; choose another --partition");
  if (ask.nodes > there.nodes)
    throw user_error(name, " has ", there.nodes, " nodes, --nodes asks for ", ask.nodes);
  if (there.max_nodes && ask.nodes > *there.max_nodes)
    throw user_error(name, " allows ", *there.max_nodes, " nodes a job, --nodes asks for ",
                     ask.nodes);
  if (ask.nodes < there.min_nodes)
    throw user_error(name, " wants at least ", there.min_nodes, " nodes a job, --nodes asks for ",
                     ask.nodes);
  const auto limit = time_limit_s(ask.time);
  if (limit && there.max_time_s && *limit > *there.max_time_s)
    throw user_error(name, " allows ", spoken(*there.max_time_s), ", --time asks for ",
                     spoken(*limit), "; the run goes on after each limit, so ask for less");
  const int64_t cpus = ask.ranks_per_node * ask.cpus_per_task;
  if (there.max_cpus_per_node && cpus > *there.max_cpus_per_node)
    throw user_error(name, " allows ", *there.max_cpus_per_node, " cores a node, ",
                     ask.ranks_per_node, " ranks of ", ask.cpus_per_task, " cores need ", cpus);
  // How many nodes have enough of one thing, and of everything.
  const auto nodes_with = [&](auto enough) {
    int64_t count = 0;
    for (const NodeKind& kind : there.kinds) count += enough(kind) ? kind.count : 0;
    return count;
  };
  if (there.kinds.empty()) return;
  const int64_t memory = memory_mib(ask.memory).value_or(0);
  const auto has_cpus = [&](const NodeKind& kind) { return kind.cpus >= cpus; };
  const auto has_memory = [&](const NodeKind& kind) { return kind.memory_mib >= memory; };
  const auto has_gres = [&](const NodeKind& kind) { return offers(kind, ask.gres); };
  if (const int64_t n = nodes_with(has_cpus); n < ask.nodes)
    throw user_error(name, " has ", n, " nodes with the ", cpus, " cores that ", ask.ranks_per_node,
                     " ranks of ", ask.cpus_per_task, " cores need, not ", ask.nodes,
                     "; lower --cpus-per-task or --ranks-per-node");
  if (const int64_t n = nodes_with(has_memory); n < ask.nodes)
    throw user_error(name, " has ", n, " nodes with ", memory, " MiB of memory, not ", ask.nodes,
                     "; lower --mem");
  if (const int64_t n = nodes_with(has_gres); n < ask.nodes)
    throw user_error(name, " has ", n, " nodes with --gres ", ask.gres, ", not ", ask.nodes);
  if (const int64_t n = nodes_with([&](const NodeKind& kind) {
        return has_cpus(kind) && has_memory(kind) && has_gres(kind);
      });
      n < ask.nodes)
    throw user_error(name, " has ", n, " nodes with all that is asked for (cores, memory, gres), ",
                     "not ", ask.nodes);
}

}  // namespace

std::vector<Partition> parse_partitions(const std::string& scontrol, const std::string& sinfo) {
  std::vector<Partition> partitions;
  for (const std::string& line : split(scontrol, '\n')) {
    std::map<std::string, std::string> fields;
    for (const std::string& word : split(line, ' '))
      if (const size_t equals = word.find('='); equals != std::string::npos)
        fields[word.substr(0, equals)] = word.substr(equals + 1);
    if (fields["PartitionName"].empty()) continue;
    Partition one;
    one.name = fields["PartitionName"];
    one.state = fields["State"];
    one.is_default = fields["Default"] == "YES";
    one.nodes = count_of(fields["TotalNodes"]).value_or(0);
    one.max_time_s = time_limit_s(fields["MaxTime"]);  // UNLIMITED is no time
    one.max_nodes = count_of(fields["MaxNodes"]);
    one.max_cpus_per_node = count_of(fields["MaxCPUsPerNode"]);
    one.min_nodes = count_of(fields["MinNodes"]).value_or(0);
    partitions.push_back(one);
  }
  for (const std::string& line : split(sinfo, '\n')) {
    const std::vector<std::string> parts = split(line, '|');
    if (parts.size() < 5) continue;
    const auto count = count_of(parts[1]), cpus = count_of(parts[2]), memory = count_of(parts[3]);
    if (!count || !cpus || !memory) continue;
    for (Partition& one : partitions)
      if (one.name == parts[0]) one.kinds.push_back({*count, *cpus, *memory, parts[4]});
  }
  return partitions;
}

std::vector<Partition> ask_partitions() {
  const auto ask = [](const std::vector<std::string>& words) {
    const Answer answer = run_program(words, 20);
    if (!answer.started)
      throw user_error("Slurm's command '", words[0], "' is not installed here; submit from a ",
                       "machine of the cluster, or print the script with --dry-run");
    if (!answer.complete || answer.exit_code != 0) {
      const std::string why = answer.complete ? answer.err : "no answer in 20 s";
      throw user_error("Slurm does not answer (", words[0], ": ", why.substr(0, why.find('\n')),
                       "); try again, or print the script with --dry-run");
    }
    return answer.out;
  };
  return parse_partitions(ask({"scontrol", "-a", "-o", "show", "partition"}),
                          ask({"sinfo", "-a", "-h", "-o", "%R|%D|%c|%m|%G"}));
}

void check_against(const JobRequest& request, const std::vector<Partition>& partitions) {
  std::string known;
  for (const Partition& one : partitions) known += (known.empty() ? "" : ", ") + one.name;
  std::vector<std::string> names = split(request.partition, ',');
  if (names.empty())
    for (const Partition& one : partitions)
      if (one.is_default) names.push_back(one.name);
  if (names.empty())
    throw user_error("the cluster has no default partition; give --partition, one of: ", known);
  for (const std::string& name : names) {
    const auto found = std::find_if(partitions.begin(), partitions.end(),
                                    [&](const Partition& one) { return one.name == name; });
    if (found == partitions.end())
      throw user_error("--partition '", name, "' does not exist here; there are: ", known);
    check_one(request, *found);
  }
}

std::string node_local(const std::string& folder, const std::string& mounts) {
  const auto inside = [&](const std::string& top) {
    return folder == top || top == "/" || folder.rfind(top + "/", 0) == 0;
  };
  static const std::set<std::string> memory = {"tmpfs", "ramfs", "devtmpfs"};
  static const std::set<std::string> shared = {"nfs",    "nfs4", "lustre", "gpfs",    "beegfs",
                                               "ceph",   "cifs", "smb3",   "afs",     "panfs",
                                               "wekafs", "9p",   "gfs2",   "virtiofs"};
  std::string type, at;
  for (const std::string& line : split(mounts, '\n')) {
    const std::vector<std::string> parts = split(line, ' ');
    if (parts.size() < 3) continue;
    std::string point;
    for (size_t i = 0; i < parts[1].size(); ++i) {  // a blank is written \040
      if (parts[1][i] == '\\' && i + 3 < parts[1].size()) {
        point += char(std::stoi(parts[1].substr(i + 1, 3), nullptr, 8));
        i += 3;
      } else {
        point += parts[1][i];
      }
    }
    if (inside(point) && point.size() >= at.size()) {  // a later mount hides an earlier one
      at = point;
      type = parts[2];
    }
  }
  if (shared.count(type)) return "";
  if (memory.count(type)) return "it is in the memory of one machine (" + type + " at " + at + ")";
  for (const char* top : {"/tmp", "/dev/shm", "/run", "/var/run"})
    if (inside(top)) return std::string(top) + " is each machine's own";
  return "";
}

}  // namespace svfleet
