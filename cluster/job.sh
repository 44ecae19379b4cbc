#!/bin/bash
# @SBATCH@

program=@PROGRAM@
libraries=@LIBRARIES@  # folders of those that it had at the submission
arguments=(@ARGUMENTS@)
run_dir=@RUN_DIR@
store=@STORE@
cpus=@CPUS@
patience=@PATIENCE@
most_blind=@MOST_BLIND@
again=@AGAIN@  # how it goes on when it ends early: requeue, chain, or by hand
restarts=${SLURM_RESTART_COUNT:-0}
srun_options=()  # for a prelude: more options of srun, such as --container-image=IMAGE
within=()        # and what the ranks run in, such as apptainer exec --nv IMAGE

# srun's own exit code mixes those of all ranks, so it is shown and never decides. bash runs a trap
# only between commands: srun is in the background and is waited for again after each signal. At a
# preemption Slurm signals only the step at once, and it restarts no job whose script has ended:
# the script asks for the restart, and stays until it happens.
step='' warned=''
# shellcheck disable=SC2317  # the traps call it
forward() {
  warned=$1
  [ -n "$step" ] || return
  echo "svfleet job: $1 came, asking the ranks to stop"
  # SIGUSR1, which srun passes on to every rank; at SIGTERM srun would end the step itself.
  kill -USR1 "$step" 2> /dev/null
}
trap 'forward SIGUSR1' USR1
trap 'forward SIGTERM' TERM

# With sbatch --export=NONE srun would keep the prelude's environment from the ranks.
export SLURM_EXPORT_ENV=ALL
# @PRELUDE@
set +eu +o pipefail  # whatever the prelude has set
# Not for Slurm's programs, which may need other libraries of the same names.
search=$libraries${libraries:+${LD_LIBRARY_PATH:+:}}${LD_LIBRARY_PATH:-}
run=(env "LD_LIBRARY_PATH=$search" "$program")

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
  srun @MPI@ --kill-on-bad-exit=1 --cpus-per-task="$cpus" "${srun_options[@]}" \
    "${within[@]}" "${run[@]}" "${arguments[@]}" &
  step=$!
  [ -z "$warned" ] || kill -USR1 "$step"  # it came in between
  wait "$step"; code=$?
  while kill -0 "$step" 2> /dev/null; do wait "$step"; code=$?; done
  step=
fi

after=("${run[@]}" after-run "$run_dir" --job "$SLURM_JOB_ID" --restarts "$restarts")
said=$("${after[@]}" --store "$store" --patience "$patience" --code "$code")
decision=$?
echo "$said"
echo "svfleet job: srun ended with $code, decision $decision"
case $decision in
  0|2|70|75|76) ;;
  *)  # a disk that failed, or a program out of reach: that says nothing about the run
    if [ "$restarts" -lt "$most_blind" ]; then
      echo "svfleet job: nothing was decided, since after-run failed: to be started again"
      decision=75
    else
      echo "svfleet job: nothing was decided, and this is restart $restarts: not started again;" \
        "look at the disk and the program, then submit again" >&2
      decision=76
    fi ;;
esac

if [ "$again" = requeue ] && [ "$decision" = 75 ]; then
  trap - USR1 TERM
  for try in {1..30}; do  # the controller may be away for a while
    told="$(scontrol -o show job "$SLURM_JOB_ID")"
    case "$told" in
      "") ;;
      *" Restarts=$restarts "*)
        # A job that someone has cancelled is ending already, and would come back to life.
        case "$told" in
          *JobState=RUNNING*|*Reason=TimeLimit*) ;;
          *) "${after[@]}" --not-again; exit "$decision" ;;
        esac
        if scontrol requeue "$SLURM_JOB_ID"; then
          sleep 900 & wait $!  # Slurm ends this script
          break
        fi ;;
      *)  # this node was cut off, and the job has been started again without it
        echo "svfleet job: restart $restarts ends, a later one has taken over"
        exit "$decision" ;;
    esac
    sleep $((try < 10 ? 2 : 20))
  done
  echo "svfleet job: Slurm did not start the job again; submit it again" >&2
  "${after[@]}" --not-again
fi
# Nothing is left for the jobs that wait behind this one of a chain, unless they are another's.
if [ "$again" = chain ] && [ "$decision" != 75 ] && [[ "$said" != *"the run belongs to"* ]]; then
  scancel --me --state=PENDING --name="$SLURM_JOB_NAME"
fi
if [ "$again" = by-hand ] && [ "$decision" = 75 ]; then
  "${after[@]}" --not-again
fi
exit "$decision"
