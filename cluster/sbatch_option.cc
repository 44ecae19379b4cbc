#include "cluster/sbatch_option.h"

#include <array>
#include <cctype>
#include <cstring>
#include <string_view>

#include "comm/error.h"

namespace svfleet {
namespace {

// What only submit decides, and why or by which words.
constexpr std::array<std::pair<std::string_view, const char*>, 23> kRefused{{
    {"array", "many jobs at once would share one run"},
    {"signal", "the script must be warned in time before the end"},
    {"requeue", "submit asks for it unless --no-requeue or --chain is given"},
    {"no-requeue", "give --no-requeue to submit itself"},
    {"open-mode", "one file tells of all starts"},
    {"output", "it is RUN/slurm-JOB.out, where people and tests look"},
    {"error", "it is RUN/slurm-JOB.out, where people and tests look"},
    {"dependency", "give --chain to submit for jobs in a row"},
    {"no-kill", "the script decides what the loss of a node costs"},
    {"nodes", "give --nodes to submit itself"},
    {"ntasks", "give --nodes and --ranks-per-node to submit itself"},
    {"ntasks-per-node", "give --ranks-per-node to submit itself"},
    {"ntasks-per-core", "give --ranks-per-node to submit itself"},
    {"ntasks-per-gpu", "give --ranks-per-node to submit itself"},
    {"ntasks-per-socket", "give --ranks-per-node to submit itself"},
    {"cpus-per-task", "give --cpus-per-task to submit itself"},
    {"chdir", "a job works in the folder from which it is submitted"},
    {"clusters", "submit asks this cluster's partitions"},
    {"wait", "submit does not wait for the job's end"},
    {"test-only", "use submit --dry-run"},
    {"wrap", "the job is a script"},
    {"help", "it submits nothing"},
    {"version", "it submits nothing"},
}};

// Those of the rest that need a value, besides the letters' below: sbatch reads all lines of the
// script as one, so that the next option would be taken for it, and would be lost.
constexpr std::string_view kWithValue =
    " acctg-freq batch bb bbf cluster-constraint comment container container-id "
    "cores-per-socket cpu-freq cpus-per-gpu deadline delay-boot export export-file extra "
    "gid gpu-bind gpu-freq gpus-per-node gpus-per-socket gpus-per-task gres-flags hint "
    "kill-on-invalid-dep mail-type mail-user mcs-label mem-bind mem-per-cpu mem-per-gpu "
    "mincpus network power prefer priority profile reservation segment sockets-per-node "
    "switches thread-spec threads-per-core time-min tmp tres-bind tres-per-task uid "
    "wait-all-nodes wckey ";

constexpr std::array<std::pair<std::string_view, std::string JobRequest::*>, 9> kOwn{{
    {"partition", &JobRequest::partition},
    {"time", &JobRequest::time},
    {"account", &JobRequest::account},
    {"qos", &JobRequest::qos},
    {"gres", &JobRequest::gres},
    {"mem", &JobRequest::memory},
    {"constraint", &JobRequest::constraint},
    {"exclude", &JobRequest::exclude},
    {"job-name", &JobRequest::name},
}};

constexpr struct {
  char letter;
  const char* name;
  bool takes_value;
} kLetters[] = {{'A', "account", true},       {'B', "extra-node-info", true},
                {'C', "constraint", true},    {'D', "chdir", true},
                {'F', "nodefile", true},      {'G', "gpus", true},
                {'H', "hold", false},         {'J', "job-name", true},
                {'L', "licenses", true},      {'M', "clusters", true},
                {'N', "nodes", true},         {'O', "overcommit", false},
                {'Q', "quiet", false},        {'S', "core-spec", true},
                {'V', "version", false},      {'W', "wait", false},
                {'a', "array", true},         {'b', "begin", true},
                {'c', "cpus-per-task", true}, {'d', "dependency", true},
                {'e', "error", true},         {'h', "help", false},
                {'i', "input", true},         {'k', "no-kill", false},
                {'m', "distribution", true},  {'n', "ntasks", true},
                {'o', "output", true},        {'p', "partition", true},
                {'q', "qos", true},           {'s', "oversubscribe", false},
                {'t', "time", true},          {'v', "verbose", false},
                {'w', "nodelist", true},      {'x', "exclude", true}};

// "-x value", "-xvalue", "-x=value", "-x"; several letters in one word are several options.
SbatchOption by_letter(const std::string& text, const std::string& where) {
  for (const auto& [letter, name, takes_value] : kLetters) {
    if (letter != text[1]) continue;
    std::string value = text.substr(2);
    if (!takes_value && !value.empty())
      throw user_error(where, " '", text, "': give one option a time, as --name=value");
    if (!value.empty() && (value[0] == ' ' || value[0] == '=')) value.erase(0, 1);
    return {name, value};
  }
  throw user_error(where, " '", text, "' is no option of sbatch; give it as --name=value");
}

SbatchOption by_name(const std::string& text) {
  const size_t begin = text.rfind("--", 0) == 0 ? 2 : 0;
  const size_t end = text.find_first_of(" =", begin);
  if (end == std::string::npos) return {text.substr(begin), ""};
  const std::string value = text.substr(end + 1);
  const size_t first = value.find_first_not_of(' ');
  return {text.substr(begin, end - begin), first == std::string::npos ? "" : value.substr(first)};
}

// sbatch takes each beginning of a name that is no other's.
void refuse_short_forms(const std::string& name, const std::string& text,
                        const std::string& where) {
  const auto look = [&](std::string_view full) {
    if (full.size() > name.size() && full.substr(0, name.size()) == name)
      throw user_error(where, " '", text, "': write the name in full: sbatch could take it for --",
                       full);
  };
  for (const auto& refused : kRefused)
    if (refused.first == name) return;
  for (const auto& own : kOwn)
    if (own.first == name) return;
  for (const auto& refused : kRefused) look(refused.first);
  for (const auto& own : kOwn) look(own.first);
}

bool needs_value(const std::string& name) {
  for (const auto& own : kOwn)
    if (own.first == name) return true;
  for (const auto& letter : kLetters)
    if (letter.name == name) return letter.takes_value;
  return kWithValue.find(" " + name + " ") != kWithValue.npos;
}

}  // namespace

SbatchOption sbatch_option(const std::string& text, const std::string& where) {
  std::string shown = text;
  for (char& c : shown)
    if (static_cast<unsigned char>(c) < ' ') c = '?';
  for (const char c : text)
    if (c == '"' || c == '\\' || static_cast<unsigned char>(c) < ' ')
      throw user_error(where, " '", shown,
                       "' holds a double quote, a backslash or a control character, ",
                       "which sbatch would change");
  const bool letters = text.size() > 1 && text[0] == '-' && text[1] != '-';
  const SbatchOption option = letters ? by_letter(text, where) : by_name(text);
  for (const char c : option.name)
    if (!std::islower(static_cast<unsigned char>(c)) && c != '-')
      throw user_error(where, " '", text, "' is no option of sbatch; give it as --name=value");
  if (option.name.empty() || option.name[0] == '-')
    throw user_error(where, " '", text, "' is no option of sbatch; give it as --name=value");
  for (const auto& [name, why] : kRefused)
    if (name == option.name)
      throw user_error(where, " '", text, "' is refused: --", name, ": ", why);
  refuse_short_forms(option.name, text, where);
  if (option.value.empty() && (text.back() == '=' || needs_value(option.name)))
    throw user_error(where, " '", text, "' has no value; give it as --", option.name, "=VALUE");
  return option;
}

std::string sbatch_line(const SbatchOption& option) {
  std::string line = "#SBATCH --" + option.name;
  if (option.value.empty()) return line;
  for (const char c : option.value)
    if (!std::isalnum(static_cast<unsigned char>(c)) && !std::strchr("_.,:=+-@/", c))
      return line + "=\"" + option.value + "\"";
  return line + "=" + option.value;
}

bool adopt(const SbatchOption& option, JobRequest& ask, bool* contradicts) {
  for (const auto& [name, field] : kOwn) {
    if (name != option.name) continue;
    std::string& asked = ask.*field;
    *contradicts = !asked.empty() && asked != option.value;
    if (asked.empty()) asked = option.value;
    return true;
  }
  return false;
}

}  // namespace svfleet
