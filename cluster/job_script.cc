#include "cluster/job_script.h"

#include <charconv>

#include "cluster/job_template.h"
#include "cluster/restart.h"
#include "cluster/sbatch_option.h"

namespace svfleet {
namespace {

std::optional<int64_t> amount(const std::string& text) {
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || value < 0 || value > 100'000'000)
    return std::nullopt;
  return value;
}

std::optional<int64_t> days_and_more(const std::string& text) {
  const size_t dash = text.find('-');
  const auto days = amount(text.substr(0, dash));
  if (!days) return std::nullopt;
  int64_t total = *days * 86400, unit = 3600;
  for (size_t begin = dash + 1; begin <= text.size(); unit /= 60) {
    const size_t end = std::min(text.find(':', begin), text.size());
    const auto part = amount(text.substr(begin, end - begin));
    if (!part || unit == 0) return std::nullopt;
    total += *part * unit;
    begin = end + 1;
  }
  return total;
}

}  // namespace

std::string shell_quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

namespace {

// The lines that sbatch reads.
std::string sbatch_lines(const JobScript& job) {
  const JobRequest& ask = job.request;
  std::string out;
  const auto option = [&](const std::string& name, const std::string& value) {
    if (!value.empty()) out += "#SBATCH --" + name + "=" + value + "\n";
  };
  // Slurm splits these lines as a shell does, and takes what follows an unquoted # for a comment.
  const auto in_quotes = [](const std::string& text) {
    return text.empty() ? text : "\"" + text + "\"";
  };
  option("job-name", ask.name);
  option("nodes", std::to_string(ask.nodes + ask.spare));
  option("ntasks-per-node", std::to_string(ask.ranks_per_node));
  option("cpus-per-task", std::to_string(ask.cpus_per_task));
  option("partition", ask.partition);
  option("time", ask.time);
  option("account", ask.account);
  option("qos", ask.qos);
  option("gres", ask.gres);
  option("mem", ask.memory);
  option("constraint", in_quotes(ask.constraint));
  option("exclude", in_quotes(ask.exclude));
  option("chdir", in_quotes(job.folder));
  option("output", "/dev/null");  // job.sh says why
  option("signal", "B:USR1@" + std::to_string(job.warning_s));
  out += ask.requeue && ask.chain == 1 ? "#SBATCH --requeue" : "#SBATCH --no-requeue";
  for (const SbatchOption& more : ask.site.options) out += "\n" + sbatch_line(more);
  return out;
}

}  // namespace

std::string job_script(const JobScript& job) {
  const JobRequest& ask = job.request;
  std::string arguments;
  for (const std::string& word : job.command)
    arguments += (arguments.empty() ? "" : " ") + shell_quoted(word);
  std::string libraries;
  for (const std::string& folder : job.libraries)
    libraries += (libraries.empty() ? "" : ":") + folder;
  const JobSite& site = ask.site;
  const bool own = !site.name.empty();
  const std::string mpi = site.mpi.empty() ? "pmix" : site.mpi;
  return fill_template(
      own ? site.text : default_template(), own ? site.name : "cluster/job.sh",
      {{"SBATCH", {.value = sbatch_lines(job), .lines = true}},
       {"PROGRAM", {shell_quoted(job.program)}},
       {"LIBRARIES", {shell_quoted(libraries)}},
       {"ARGUMENTS", {arguments}},
       {"RUN_DIR", {shell_quoted(job.run_dir)}},
       {"STORE", {shell_quoted(job.store)}},
       {"CPUS", {std::to_string(ask.cpus_per_task)}},
       {"NODES", {std::to_string(ask.nodes), false}},
       {"RANKS_PER_NODE", {std::to_string(ask.ranks_per_node), false}},
       {"EXCLUDE", {shell_quoted(ask.exclude), false}},
       {"PATIENCE", {std::to_string(ask.patience)}},
       {"MOST_BLIND", {std::to_string(kMostBlindRestarts)}},
       {"AGAIN",
        {ask.chain > 1 ? "chain"
         : ask.requeue ? "requeue"
                       : "by-hand"}},
       // A site's template may have its own launcher and modules; what was asked for is needed.
       {"MPI", {mpi == "default" ? "" : "--mpi=" + mpi, !site.mpi.empty()}},
       {"PRELUDE", {site.prelude, !site.prelude.empty(), true}}});
}

std::optional<int64_t> time_limit_s(const std::string& text) {
  std::optional<int64_t> total;
  if (text.find('-') != std::string::npos) {
    total = days_and_more(text);
  } else {
    const size_t first = text.find(':');
    const size_t second = first == std::string::npos ? first : text.find(':', first + 1);
    if (first == std::string::npos) {
      if (const auto minutes = amount(text)) total = *minutes * 60;
    } else if (second == std::string::npos) {
      total = days_and_more("0-0:" + text);
    } else {
      total = days_and_more("0-" + text);
    }
  }
  if (!total || *total == 0) return std::nullopt;
  return total;
}

std::optional<int64_t> memory_mib(const std::string& text) {
  if (text.empty()) return std::nullopt;
  if (text == "0") return 0;
  std::string digits = text;
  int64_t unit = 1024;  // KiB in a unit
  const size_t suffix = std::string("KMGT").find(char(text.back() & ~0x20));
  if (text.back() > '9') {
    if (suffix == std::string::npos) return std::nullopt;
    unit = int64_t(1) << (10 * suffix);
    digits.pop_back();
  }
  const auto value = amount(digits);
  if (!value || *value == 0) return std::nullopt;
  return std::max<int64_t>(1, *value * unit / 1024);
}

}  // namespace svfleet
