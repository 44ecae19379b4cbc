#!/usr/bin/env python3
"""Jobs of `svfleet submit` on a real Slurm: sbatch accepts the script; a job that a higher partition
preempts is started again and ends with the undisturbed hash; one that cannot get on gives up."""
import json
import os
import shutil
import time

import slurm  # finds runs
import runs
from runs import check
from slurm import box, ended, output, state, wait_until

STEPS = int(os.environ.get("SVFLEET_STEPS", "60"))


def submit(config, run_dir, *more):
    return box("run", runs.SVFLEET, "submit", config, "--set", f"run_dir={run_dir}", *more)


def status(run_dir):
    return json.loads(box("run", runs.SVFLEET, "status", run_dir, "--json").stdout)


def submit_altered(config, run_dir, words, old, new):
    """The job of a script in which one thing is not as submit wrote it."""
    (run_dir / "bin").mkdir(parents=True)
    shutil.copy2(runs.SVFLEET, run_dir / "bin" / "svfleet")
    script = run_dir / "altered.sh"
    script.write_text(submit(config, run_dir, *words, "--dry-run").stdout.replace(old, new))
    return box("run", "sbatch", "--parsable", str(script)).stdout.strip()


def run_tests(folder):
    config = slurm.own_copies(folder, steps=STEPS, tokens=48)
    alone = folder / "alone"
    runs.run(config, alone, 1)
    expected = runs.content_hash(alone)

    run_dir = folder / "pre empted #1"  # nothing of it may be a comment for sbatch
    words = ["--nodes", "2", "--cpus-per-task", "2", "--partition", "low", "--time", "10"]
    script = folder / "dry.sh"
    script.write_text(submit(config, run_dir, *words, "--dry-run").stdout)
    tested = box("run", "sbatch", "--test-only", str(script))
    check(tested.returncode == 0, "sbatch --test-only: " + tested.stderr.strip())
    script.write_text(script.read_text().replace("--nodes=2", "--nodes=9"))
    check(box("run", "sbatch", "--test-only", str(script)).returncode != 0,
          "and it refuses nine nodes of two")

    done = submit(config, run_dir, *words, "--json")
    check(done.returncode == 0, "submitted: " + (done.stdout + done.stderr).strip())
    job = json.loads(done.stdout)["jobs"][0]
    wait_until(lambda: (runs.newest_step(run_dir) or 0) >= 2, 120, "step 2")
    again = submit(config, run_dir, *words)
    check(again.returncode == 2 and f"of job {job} since" in again.stderr,
          "a run that lives is not submitted again: " + again.stderr.strip())
    urgent = folder / "urgent.sh"
    urgent.write_text("#!/bin/sh\nsleep 3\n")
    start = time.time()
    done = box("run", "sbatch", "-p", "high", "-N2", "-n2", "-w", "n1,n2", "-o", "/dev/null",
               str(urgent))
    check(done.returncode == 0, "an urgent job for both nodes: " + done.stdout.strip())
    wait_until(lambda: state(job)[1] >= 1, 60, "requeue")
    requeued = time.time() - start
    at = runs.newest_step(run_dir)
    check(at < STEPS, f"preempted after step {at} of {STEPS}, requeued after {requeued:.1f} s")
    wait_until(lambda: state(job)[0] == "RUNNING", 90, "the second start")
    resumed = time.time() - start
    wait_until(lambda: ended(job), 180, "the end")
    check(state(job)[0] == "COMPLETED",
          f"started again {resumed:.1f} s after the urgent job came, then {state(job)}")
    check(runs.content_hash(run_dir) == expected, f"the undisturbed hash {expected}")
    text = output(run_dir)
    check("stopped by SIG" in text and "svfleet job: finished" in text,
          "its output tells why it stopped and that it finished")

    # The finished run needs no job; its script, handed in again, ends at once and is not started again.
    answer = json.loads(submit(config, run_dir, *words, "--json").stdout)
    check(answer["already_finished"] and not answer["jobs"], f"submitted again: {answer['message']}")
    job = box("run", "sbatch", "--parsable", str(run_dir / "job.sh")).stdout.strip()
    wait_until(lambda: ended(job), 60, "the end of a finished run")
    check(state(job)[:2] == ("COMPLETED", 0), f"a finished run: {state(job)}")

    # A configuration that breaks after the submission: no restart, the code is the job's.
    broken = folder / "broken"
    job = json.loads(submit(config, broken, *words, "--set", "model.chat_template=none-such",
                            "--json").stdout or "{}").get("jobs", [None])[0]
    if job:
        wait_until(lambda: ended(job), 60, "the end of a broken run")
        check(state(job) == ("FAILED", 0, "2:0"), f"a broken run: {state(job)}")

    # One that does not even load, so that no rank can report.
    unread = folder / "unread"
    job = submit_altered(config, unread, words, "'train'", "'train' '--set' 'train.stepz=1'")
    wait_until(lambda: state(job)[0] == "FAILED", 60, "the end of a configuration that does not load")
    check(state(job) == ("FAILED", 0, "2:0") and "did you mean" in output(unread),
          f"one that does not load: {state(job)}")

    # Ranks that die without a report, each time at the same place: one try more, then the end.
    stuck = folder / "stuck"
    job = submit_altered(config, stuck, [*words, "--patience", "1"],
                         '"${run[@]}" "${arguments[@]}" &', "false &")
    wait_until(lambda: state(job)[0] == "FAILED", 90, "the end of a run that cannot get on")
    check(state(job) == ("FAILED", 1, "76:0") and "no progress in 1 restarts" in output(stuck),
          f"a run that cannot get on: {state(job)}")

    # Held by an administrator, as Slurm itself does after a failed launch: status says what to do.
    held = folder / "held"
    job = json.loads(submit(config, held, *words, "--json").stdout)["jobs"][0]
    wait_until(lambda: (runs.newest_step(held) or 0) >= 1, 120, "step 1")
    check(status(held)["advice"] == "", "nothing to do while it runs: " + status(held)["state"])
    box("run", "scontrol", "requeuehold", job)
    wait_until(lambda: state(job)[0] == "PENDING", 60, "a job that is held")
    now = status(held)
    check("eld" in now["state"] and f"scontrol release {job}" in now["advice"],
          f"a job that is held: {now['state']}; {now['advice']}")
    box("run", "scancel", job)

    # Someone cancels a run: it stops with its chunks kept, and does not come back to life.
    cancelled = folder / "cancelled"
    job = json.loads(submit(config, cancelled, *words, "--json").stdout)["jobs"][0]
    wait_until(lambda: (runs.newest_step(cancelled) or 0) >= 1, 120, "step 1")
    box("run", "scancel", job)
    wait_until(lambda: ended(job), 60, "the end of a cancelled run")
    time.sleep(2)
    check(state(job)[:2] == ("CANCELLED", 0), f"a cancelled run: {state(job)}")

    # Links of a chain: the first one does the work, the others are taken from the queue.
    chain = folder / "chain"
    jobs = json.loads(submit(config, chain, *words, "--set", "train.steps=2", "--chain", "3",
                             "--json").stdout)["jobs"]
    wait_until(lambda: all(ended(j) for j in jobs), 120, "the end of the chain")
    states = [state(j)[0] for j in jobs]
    check(states == ["COMPLETED", "CANCELLED", "CANCELLED"], f"a chain of three: {states}")


def main():
    with slurm.shared_folder() as folder, slurm.nodes(2):
        run_tests(folder)


main()
