#include "cluster/job_script.h"

#include <charconv>

#include "cluster/restart.h"

namespace svfleet {
namespace {

std::optional<int64_t> number(const std::string& text) {
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || value < 0 || value > 100'000'000)
    return std::nullopt;
  return value;
}

// srun's own exit code mixes those of all ranks, so it is shown and never decides. bash runs a trap
// only between commands: srun is in the background and is waited for again after each signal. At a
// preemption Slurm signals only the step at once, and it restarts no job whose script has ended:
// the script asks for the restart, and stays until it happens.
constexpr char kBody[] = R"sh(
step= warned=
forward() {
  warned=$1
  [ -n "$step" ] || return
  echo "svfleet job: $1 came, asking the ranks to stop"
  # SIGUSR1, which srun passes on to every rank; at SIGTERM srun would end the step itself.
  kill -USR1 "$step" 2> /dev/null
}
trap 'forward SIGUSR1' USR1
trap 'forward SIGTERM' TERM

echo "svfleet job: $SLURM_JOB_ID, restart $restarts, on $SLURM_JOB_NODELIST"
# A node that crashed keeps a socket named after the step, and no step of that name starts there again
# ("task 0 launch failed"). So restarts take turns with the number of their step.
for ((skip = restarts % 3; skip > 0; --skip)); do
  [ -n "$warned" ] || timeout 30 srun --mpi=none --nodes=1 --ntasks=1 true
done
if [ -n "$warned" ]; then
  echo "svfleet job: $warned came before the ranks were started: they are not"
  code=75
else
  srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task=$cpus "$program" "${arguments[@]}" &
  step=$!
  [ -z "$warned" ] || kill -USR1 "$step"  # it came in between
  wait "$step"; code=$?
  while kill -0 "$step" 2> /dev/null; do wait "$step"; code=$?; done
  step=
fi

after=("$program" after-run "$run_dir" --job "$SLURM_JOB_ID" --restarts "$restarts")
said=$("${after[@]}" --store "$store" --patience "$patience" --code "$code")
decision=$?
echo "$said"
echo "svfleet job: srun ended with $code, decision $decision"
case $decision in
  0|2|70|75|76) ;;
  *)  # a disk that failed, or a program out of reach: that says nothing about the run
    if [ "$restarts" -lt $most_blind ]; then
      echo "svfleet job: nothing was decided, since after-run failed: to be started again"
      decision=75
    else
      echo "svfleet job: nothing was decided, and this is restart $restarts: not started again;" \
        "look at the disk and the program, then submit again" >&2
      decision=76
    fi ;;
esac
)sh";

constexpr char kRequeue[] = R"sh(
if [ $decision = 75 ]; then
  trap - USR1 TERM
  for try in {1..30}; do  # the controller may be away for a while
    told="$(scontrol -o show job "$SLURM_JOB_ID")"
    case "$told" in
      "") ;;
      *" Restarts=$restarts "*)
        # A job that someone has cancelled is ending already, and would come back to life.
        case "$told" in
          *JobState=RUNNING*|*Reason=TimeLimit*) ;;
          *) "${after[@]}" --not-again; exit $decision ;;
        esac
        if scontrol requeue "$SLURM_JOB_ID"; then
          sleep 900 & wait $!  # Slurm ends this script
          break
        fi ;;
      *)  # this node was cut off, and the job has been started again without it
        echo "svfleet job: restart $restarts ends, a later one has taken over"
        exit $decision ;;
    esac
    sleep $((try < 10 ? 2 : 20))
  done
  echo "svfleet job: Slurm did not start the job again; submit it again" >&2
  "${after[@]}" --not-again
fi
)sh";

constexpr char kEndChain[] = R"sh(
# Nothing is left for the jobs that wait behind this one, unless they are another's.
if [ $decision != 75 ] && [[ "$said" != *"the run belongs to"* ]]; then
  scancel --me --state=PENDING --name="$SLURM_JOB_NAME"
fi
)sh";

std::optional<int64_t> days_and_more(const std::string& text) {
  const size_t dash = text.find('-');
  const auto days = number(text.substr(0, dash));
  if (!days) return std::nullopt;
  int64_t total = *days * 86400, unit = 3600;
  for (size_t begin = dash + 1; begin <= text.size(); unit /= 60) {
    const size_t end = std::min(text.find(':', begin), text.size());
    const auto part = number(text.substr(begin, end - begin));
    if (!part || unit == 0) return std::nullopt;
    total += *part * unit;
    begin = end + 1;
  }
  return total;
}

}  // namespace

std::string quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string job_script(const JobScript& job) {
  const JobRequest& ask = job.request;
  std::string out = "#!/bin/bash\n";
  const auto option = [&](const std::string& name, const std::string& value) {
    if (!value.empty()) out += "#SBATCH --" + name + "=" + value + "\n";
  };
  // Slurm splits these lines as a shell does, and takes what follows an unquoted # for a comment.
  const auto in_quotes = [](const std::string& text) {
    return text.empty() ? text : "\"" + text + "\"";
  };
  const bool requeue = ask.requeue && ask.chain == 1;
  option("job-name", ask.name);
  option("nodes", std::to_string(ask.nodes));
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
  option("output", in_quotes(job.run_dir + "/slurm-%j.out"));
  out += "#SBATCH --open-mode=append\n";
  option("signal", "B:USR1@" + std::to_string(job.warning_s));
  out += requeue ? "#SBATCH --requeue\n" : "#SBATCH --no-requeue\n";
  if (ask.chain > 1) option("dependency", "singleton");

  out += "\nprogram=" + quoted(job.program) + "\narguments=(";
  for (size_t i = 0; i < job.command.size(); ++i) out += (i ? " " : "") + quoted(job.command[i]);
  out += ")\nrun_dir=" + quoted(job.run_dir) + "\nstore=" + quoted(job.store) +
         "\ncpus=" + std::to_string(ask.cpus_per_task) +
         "\npatience=" + std::to_string(ask.patience) +
         "\nmost_blind=" + std::to_string(kMostBlindRestarts) +
         "\nrestarts=${SLURM_RESTART_COUNT:-0}\n";
  out += kBody;
  if (requeue) out += kRequeue;
  if (ask.chain > 1) out += kEndChain;
  if (!ask.requeue && ask.chain == 1) out += "[ $decision != 75 ] || \"${after[@]}\" --not-again\n";
  return out + "exit $decision\n";
}

std::optional<int64_t> time_limit_s(const std::string& text) {
  std::optional<int64_t> total;
  if (text.find('-') != std::string::npos) {
    total = days_and_more(text);
  } else {
    const size_t first = text.find(':');
    const size_t second = first == std::string::npos ? first : text.find(':', first + 1);
    if (first == std::string::npos) {
      if (const auto minutes = number(text)) total = *minutes * 60;
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
  std::string digits = text;
  int64_t unit = 1024;  // KiB in a unit
  const size_t suffix = std::string("KMGT").find(char(text.back() & ~0x20));
  if (text.back() > '9') {
    if (suffix == std::string::npos) return std::nullopt;
    unit = int64_t(1) << (10 * suffix);
    digits.pop_back();
  }
  const auto value = number(digits);
  if (!value || *value == 0) return std::nullopt;
  return std::max<int64_t>(1, *value * unit / 1024);
}

}  // namespace svfleet
