#!/usr/bin/env python3
"""Links of a chain on a real Slurm, when the ranks of the one before ignore SIGTERM: the next link neither
dies of the job that is ending nor takes the chain out of the queue, and the run ends with the undisturbed
hash."""
import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import slurm  # finds runs
import runs
from runs import check
from slurm import box, ended, output, wait_until

STEPS = 60


def ranks_of(run_dir):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes()
            if b"\0train\0" in words and f"run_dir={run_dir}\0".encode() in words and \
                    os.readlink(f"/proc/{entry}/exe").endswith("/svfleet"):
                found.append(int(entry))
        except OSError:
            pass
    return found


def hold(pids):
    """Stopped until they are killed: Slurm sends SIGCONT before SIGTERM."""
    while pids:
        for pid in list(pids):
            try:
                os.kill(pid, signal.SIGSTOP)
            except ProcessLookupError:
                pids.remove(pid)
        time.sleep(0.001)


def submit(config, run_dir, links):
    done = box("run", runs.SVFLEET, "submit", config, "--set", f"run_dir={run_dir}", "--nodes", "2",
               "--cpus-per-task", "2", "--partition", "low", "--time", "20", "--chain", str(links),
               "--json")
    check(done.returncode == 0, "submitted: " + (done.stdout + done.stderr).strip())
    return json.loads(done.stdout)["jobs"]


def cancel_deaf(job, run_dir):
    """Ends a link that computes and whose ranks take no notice of SIGTERM: Slurm kills them later, and
    until then the job is COMPLETING."""
    wait_until(lambda: (runs.newest_step(run_dir) or 0) >= 2, 180, "step 2")
    ranks = ranks_of(run_dir)
    check(len(ranks) == 2, f"two ranks: {ranks}")
    threading.Thread(target=hold, args=(ranks,), daemon=True).start()
    check(runs.newest_step(run_dir) < STEPS - 10, f"stopped in step {runs.newest_step(run_dir)}")
    box("run", "scancel", job)
    wait_until(lambda: box("run", "squeue", "-h", "-j", job, "-o", "%T").stdout.strip()
               == "COMPLETING", 30, "COMPLETING")


def next_link(config, folder, expected):
    run_dir = folder / "chain"
    jobs = submit(config, run_dir, 3)
    cancel_deaf(jobs[0], run_dir)
    wait_until(lambda: all(ended(job) for job in jobs), 300, "the end of the chain")
    states = [slurm.state(job)[0] for job in jobs]
    check(states == ["CANCELLED", "COMPLETED", "CANCELLED"],
          f"the second link finished the run and took the third from the queue: {states}")
    check(runs.content_hash(run_dir) == expected, f"the undisturbed hash {expected}")
    check("dependency" not in (run_dir / "job.sh").read_text(),
          "the script can be handed in again: no dependency stands in it")


def by_hand(config, folder, expected):
    """The script handed in again while its job is ending: it depends on nothing, and waits."""
    run_dir = folder / "by_hand"
    jobs = submit(config, run_dir, 2)
    cancel_deaf(jobs[0], run_dir)
    extra = box("run", "sbatch", "--parsable", str(run_dir / "job.sh")).stdout.strip()
    wait_until(lambda: "waiting up to 300 s for job " + jobs[0] in output(run_dir, extra) or
               ended(extra), 60, "a start that waits for the job that is ending")
    check(not ended(extra), "a start waits for the job that is ending, and says so")
    wait_until(lambda: all(ended(job) for job in (*jobs, extra)), 300, "the end of all links")
    # Whoever of the two was second waited for the other one of its chain.
    check(not any("not started again" in output(run_dir, job) for job in (*jobs, extra)),
          "none of them was refused")
    check(runs.content_hash(run_dir) == expected, f"the undisturbed hash {expected}")


def of_another(config, folder):
    """A run that lives in another job: code 2 at once, and the chain stays."""
    run_dir = folder / "another"
    jobs = submit(config, run_dir, 1)
    wait_until(lambda: (runs.newest_step(run_dir) or 0) >= 1, 180, "step 1")
    script = folder / "chain_of_another.sh"
    dry = box("run", runs.SVFLEET, "submit", config, "--set", f"run_dir={run_dir}", "--nodes", "2",
              "--cpus-per-task", "2", "--partition", "low", "--time", "20", "--chain", "2",
              "--dry-run").stdout
    script.write_text(dry)
    first = box("run", "sbatch", "--parsable", str(script)).stdout.strip()
    second = box("run", "sbatch", "--parsable", f"--dependency=afterany:{first}",
                 "--begin=now+10", str(script)).stdout.strip()
    wait_until(lambda: ended(first), 60, "a link that finds the run in other hands")
    check(re.search(r"the run belongs to job " + jobs[0], output(run_dir, first)) and
          slurm.state(first)[0] == "FAILED" and slurm.state(second)[0] != "CANCELLED",
          f"a live owner elsewhere: {slurm.state(first)}, the link behind it {slurm.state(second)}")
    for job in (second, *jobs):
        box("run", "scancel", job)


def main():
    os.environ["KILLWAIT"] = "15"
    with slurm.shared_folder() as folder, slurm.nodes(4):
        config = slurm.own_copies(folder, steps=STEPS, tokens=48)
        alone = folder / "alone"
        runs.run(config, alone, 1)
        expected = runs.content_hash(alone)
        next_link(config, folder, expected)
        by_hand(config, folder, expected)
        of_another(config, folder)


main()
