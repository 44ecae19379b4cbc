#!/bin/bash
# @SBATCH@

run_dir=@RUN_DIR@
restarts=${SLURM_RESTART_COUNT:-0}
srun_options=()  # for a prelude: more options of srun, such as --container-image=IMAGE
within=()        # and what the ranks run in, such as apptainer exec --nv IMAGE

# srun's own exit code mixes those of all ranks, so it is shown and never decides. bash runs a trap
# only between commands: srun is in the background and is waited for again after each signal. At a
# preemption Slurm signals only the step at once, and it restarts no job whose script has ended:
# the script asks for the restart, and stays until it happens.
#
# What is printed goes to RUN/slurm-JOB.out, usually on the disk of everything else. Where that hangs,
# so does whoever writes there: that is a program of its own behind a pipe, and neither srun nor this
# script, nor Slurm's own end of the job, which ends no job before it has told its output. What is
# to be said waits all the same until the next start is under way, for a pipe may be full.
print_from_pipe() {
  trap '' TERM USR1 INT HUP
  local output=$run_dir/slurm-$SLURM_JOB_ID.out
  # Out of sight of this node: to the working directory, since Slurm keeps nothing.
  { : >> "$output"; } 2> /dev/null || [ ! /dev/fd/1 -ef /dev/null ] ||
    output=$PWD/slurm-$SLURM_JOB_ID.out
  if { : >> "$output"; } 2> /dev/null; then cat >> "$output"; else cat; fi
  exec cat > /dev/null  # a disk that fails costs the output, and nobody who prints
}
exec > >(print_from_pipe) 2>&1
printer=$!
# Slurm ends what the script leaves behind: not before it has been printed.
# shellcheck disable=SC2317  # the trap calls it
let_print() {
  exec >&- 2>&-
  for _ in {1..50}; do
    kill -0 "$printer" || break
    sleep 0.1
  done
}
trap let_print EXIT
step='' warned='' notes=''
note() { notes+="svfleet job: $1"$'\n'; }
tell() { printf '%s' "$notes"; notes=''; }
# shellcheck disable=SC2317  # the traps call it
forward() {
  warned=$1
  [ -n "$step" ] || return
  # SIGUSR1, which srun passes on to every rank; at SIGTERM srun would end the step itself.
  kill -USR1 "$step" 2> /dev/null
  note "$1 came, the ranks were asked to stop"
}
trap 'forward SIGUSR1' USR1
trap 'forward SIGTERM' TERM

# With sbatch --export=NONE srun would keep the prelude's environment from the ranks.
export SLURM_EXPORT_ENV=ALL
# @PRELUDE@
set +eu +o pipefail  # whatever the prelude has set
# Below the prelude, which may use these names for something else.
program=@PROGRAM@
libraries=@LIBRARIES@  # folders of those that it had at the submission
arguments=(@ARGUMENTS@)
store=@STORE@
nodes=@NODES@  # half of them are enough to go on at once
ranks_per_node=@RANKS_PER_NODE@
cpus=@CPUS@
exclude=@EXCLUDE@
patience=@PATIENCE@
most_blind=@MOST_BLIND@
again=@AGAIN@  # how it goes on when it ends early: requeue, chain, or by hand
# bash looks at its working directory whenever it looks for a program, and that may hang too.
folder=$PWD
cd /
# Not for Slurm's programs, which may need other libraries of the same names.
search=$libraries${libraries:+${LD_LIBRARY_PATH:+:}}${LD_LIBRARY_PATH:-}
run=(env "LD_LIBRARY_PATH=$search" "$program")

# What after-run answers, as one that may hang: decision, plan, and a note. Nothing: decision none.
ask_after_run() {
  local answer line
  decision=none plan=''
  exec {answer}< <(timeout -k 5 30 "${after[@]}" "$@" 2>&1; echo "code $?")
  while IFS= read -r -t 40 -u "$answer" line; do
    case $line in
      "plan "*) plan=${line#plan } ;;
      "code "*) decision=${line#code } ;;
      *) notes+=$line$'\n' ;;
    esac
  done
  exec {answer}<&-
}
# After-run that does not answer, not even by failing: the disk may hang on this host alone. Prints
# where not to start then, this host too if the partition has enough others like it.
without_this_host() {
  local others
  others=$(timeout 30 sinfo -h -N -p "$SLURM_JOB_PARTITION" -o "%N %T %f,%G,%m" |
    awk -v me="$SLURMD_NODENAME" '{ kind[$1] = $3 }
      $2 ~ /^(idle|mixed|allocated|completing)$/ { up[$1] }
      END { for (node in up) if (node != me && kind[node] == kind[me]) print node }' |
    grep -cvxF -f <([ -z "$exclude" ] || scontrol show hostnames "$exclude"))
  if [ "$others" -lt "$SLURM_JOB_NUM_NODES" ] || [ -n "${SLURM_JOB_RESERVATION:-}" ]; then
    echo "$exclude"
  else
    echo "${exclude:+$exclude,}$SLURMD_NODENAME"
  fi
}
not_again() {
  local decision plan  # what was decided stays
  tell
  ask_after_run --not-again
  tell
}

echo "svfleet job: $SLURM_JOB_ID, restart $restarts, on $SLURM_JOB_NODELIST"
# A node that crashed keeps a socket named after the step, and no step of that name starts there again
# ("task 0 launch failed"). So restarts take turns with the number of their step.
for ((skip = restarts % 3; skip > 0; --skip)); do
  [ -n "$warned" ] || timeout 30 srun --mpi=none --nodes=1 --ntasks=1 true
done

[ "$again" != chain ] || export SVFLEET_CHAIN="$SLURM_JOB_NAME"
where=()  # at first on all nodes
for ((start = 0; ; ++start)); do
  if [ -n "$warned" ]; then
    note "$warned came before the ranks were started: they are not"
    code=75
  else
    SVFLEET_START=$start srun @MPI@ --kill-on-bad-exit=1 --chdir="$folder" \
      --cpus-per-task="$cpus" "${where[@]}" "${srun_options[@]}" "${within[@]}" "${run[@]}" "${arguments[@]}" &
    step=$!
    tell
    [ -z "$warned" ] || kill -USR1 "$step"  # it came in between
    wait "$step"; code=$?
    while kill -0 "$step" 2> /dev/null; do wait "$step"; code=$?; done
    step=''
  fi
  after=("${run[@]}" after-run "$run_dir" --job "$SLURM_JOB_ID" --restarts "$restarts" --start "$start")
  ask_after_run --plan --store "$store" --patience "$patience" --code "$code" --nodes "$nodes" \
    --exclude "$exclude"
  note "srun ended with $code, decision $decision"
  read -r what count without < <(echo "$plan")  # <<< may write a file on a disk that hangs
  if [ "$what" != again ] || [ -n "$warned" ]; then break; fi
  where=(--nodes="$count" --ntasks=$((count * ranks_per_node)) --exclude="$without")
  note "starting again on $count nodes of this allocation, without $without"
done

case $decision in none|124|137) silent=1 ;; *) silent='' ;; esac  # of timeout: 124, 137
case $decision in
  0|2|70|75|76) ;;
  *)  # a disk that failed, or a program out of reach: that says nothing about the run
    if [ "$restarts" -lt "$most_blind" ]; then
      note "nothing was decided, since after-run failed: to be started again"
      decision=75
    else
      note "nothing was decided, and this is restart $restarts: not started again; look at the disk \
and the program, then submit again"
      decision=76
    fi ;;
esac

if [ "$again" = requeue ] && [ "$decision" = 75 ]; then
  trap '' USR1
  trap - TERM
  if [ "$what" = requeue ]; then without=${count#-};
  elif [ "$silent" ]; then without=$(without_this_host); else without=$exclude; fi
  for ((try = 1; try <= 30; )); do
    told="$(scontrol -o show job "$SLURM_JOB_ID")"
    case "$told" in
      "") ;;  # the controller is away: until it is back, or the allocation ends
      *" Restarts=$restarts "*)
        # A job that someone has cancelled is ending already, and would come back to life.
        case "$told" in
          *JobState=RUNNING*|*Reason=TimeLimit*) ;;
          *) not_again; exit "$decision" ;;
        esac
        # Slurm ends this script and all that it has started, which first say where not to start.
        over=''
        trap 'over=1' TERM
        if (trap '' TERM; scontrol requeue "$SLURM_JOB_ID" &&
            { scontrol update JobId="$SLURM_JOB_ID" ExcNodeList="$without" || true; }); then
          tell
          [ -n "$over" ] || { sleep 900 & wait $!; }
          exit "$decision"
        fi
        trap - TERM ;;
      *)  # this node was cut off, and the job has been started again without it
        note "restart $restarts ends, a later one has taken over"
        tell
        exit "$decision" ;;
    esac
    [ -z "$told" ] || ((++try))
    sleep $((try < 10 ? 2 : 20))
  done
  note "Slurm did not start the job again; submit it again"
  not_again
fi
tell
# Nothing is left for the jobs that wait behind this one of a chain, unless they are another's.
if [ "$again" = chain ] && [ "$decision" != 75 ] && [ "$what" != leave ]; then
  scancel --me --state=PENDING --name="$SLURM_JOB_NAME"
fi
if [ "$again" = by-hand ] && [ "$decision" = 75 ]; then
  not_again
fi
exit "$decision"
