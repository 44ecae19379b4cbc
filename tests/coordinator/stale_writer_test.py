#!/usr/bin/env python3
"""A writer that is stopped, replaced, and comes back: all ranks of a run get SIGSTOP at a random
moment of a step, another start of the same job takes the run over and finishes it or is killed, and
the first one goes on. It must change nothing in the run folder and say whose that is now."""
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import runs
from runs import check

STEPS = 14
MOMENTS = int(os.environ.get("SVFLEET_MOMENTS", "3"))


def start(config, run_dir, ranks, restart):
    """A start of job 77, as Slurm would do it."""
    environment = dict(os.environ, SLURM_JOB_ID="77", SLURM_RESTART_COUNT=str(restart),
                       SLURM_JOB_END_TIME=str(int(time.time()) + 86400))
    return subprocess.Popen(runs.command(config, run_dir, ranks), env=environment, text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for_work(job, run_dir, least):
    """Until there is a newer checkpoint or a chunk more, and checkpoint `least` or a later one."""
    before = (runs.newest_step(run_dir), len(runs.journal(run_dir)))
    while job.poll() is None:
        now = runs.newest_step(run_dir)
        if now is not None and now >= least and (now, len(runs.journal(run_dir))) != before:
            return
        time.sleep(0.002)


def is_stopped(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"


def stopped_writer(config, run_dir, ranks, chance):
    """A run on `ranks` ranks, stopped in the middle, and its processes."""
    while True:
        shutil.rmtree(run_dir, ignore_errors=True)
        job = start(config, run_dir, ranks, 0)
        wait_for_work(job, run_dir, 1)
        time.sleep(chance.uniform(0, 0.6))
        pids = list(runs.ranks_of(job.pid).values())
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        while pids and not all(map(is_stopped, pids)):
            time.sleep(0.001)
        if job.poll() is None and len(pids) == ranks and runs.newest_step(run_dir) < STEPS - 2:
            return job, pids
        for pid in pids:  # too late to be of use
            os.kill(pid, signal.SIGKILL)
        job.communicate(timeout=60)


def snapshot(run_dir):
    return {str(path.relative_to(run_dir)):
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "a folder"
            for path in sorted(run_dir.rglob("*"))}


def changes(before, after):
    return sorted(name for name in before.keys() | after.keys()
                  if before.get(name) != after.get(name))


def finish(config, run_dir, ranks, restart):
    job = start(config, run_dir, ranks, restart)
    _, errors = job.communicate(timeout=300)
    if job.returncode:
        sys.exit(f"FAILED: restart {restart} on {ranks} ranks ended with {job.returncode}:\n{errors}")


def take_over_and_die(config, run_dir, ranks, chance):
    """Restart 1, killed in the middle. The process that was the owner, or None if it finished."""
    job = start(config, run_dir, ranks, 1)
    wait_for_work(job, run_dir, 1)
    time.sleep(chance.uniform(0, 0.2))
    owner = runs.ranks_of(job.pid).get(0)
    if owner is None or job.poll() is not None or (run_dir / "exit.json").exists():
        job.communicate(timeout=60)
        return None
    runs.kill_all_below(job)
    return owner


def goes_on(job, pids):
    """SIGCONT; the exit code, what it says of the run folder, and the seconds until its end."""
    begin = time.time()
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    _, errors = job.communicate(timeout=60)
    said = [line for line in errors.splitlines()
            if re.match(r"svfleet: (rank \d+ \(host .*\): )?the run folder", line)]
    return job.returncode, said, time.time() - begin, errors


def where(run_dir):
    unfinished = [path.name for path in run_dir.rglob("*.tmp-*")]
    return (f"step {runs.newest_step(run_dir)}, {len(runs.journal(run_dir))} of 8 chunks"
            + (f", writing {unfinished[0].split('.tmp-')[0]}" if unfinished else ""))


def moment(config, run_dir, ranks, dies, chance, expected):
    old, pids = stopped_writer(config, run_dir, ranks, chance)
    stopped_at = where(run_dir)
    token = json.loads((run_dir / "owner.json").read_text())["token"]
    others = chance.choice([1, 2])
    owner = None
    if dies:
        owner = take_over_and_die(config, run_dir, others, chance)
    else:
        finish(config, run_dir, others, 1)
    before = snapshot(run_dir)
    code, said, seconds, errors = goes_on(old, pids)
    # What it was about to add may still come to a journal of its own.
    changed = [name for name in changes(before, snapshot(run_dir)) if not name.endswith(f"-{token}.journal")]
    check(not changed, f"stopped on {ranks} ranks at {stopped_at}; the new owner on {others} "
          + (f"was killed at {where(run_dir)}" if owner else "finished")
          + f"; changed: {changed or 'nothing'}")
    name = f"process {owner} on host {os.uname().nodename} of job 77" if owner else "nobody"
    if code != 75 or not said or any(name not in line for line in said):
        sys.exit(f"FAILED: it ended with {code} after {seconds:.1f} s and did not name {name}:\n"
                 + errors)
    check(seconds < 20, f"it ended with code 75 after {seconds:.1f} s: {said[0]}")
    if dies:
        finish(config, run_dir, chance.choice([1, 2]), 2)
    check(runs.content_hash(run_dir) == expected, "the run ends with the undisturbed hash")


def control(config, run_dir, ranks, chance):
    """With the owner file as it was the old writer does go on, and the snapshot shows it."""
    owner_file = run_dir / "owner.json"
    while True:
        old, pids = stopped_writer(config, run_dir, ranks, chance)
        owner = owner_file.read_bytes()
        # Stopped inside a write it would end at once: its temporary file is gone.
        writing = list(run_dir.rglob("*.tmp-*"))
        if not writing and take_over_and_die(config, run_dir, 1, chance):
            break
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        old.communicate(timeout=60)
    check(owner_file.read_bytes() != owner, "control: the owner file was another")
    owner_file.write_bytes(owner)
    before = snapshot(run_dir)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    old.communicate(timeout=300)
    changed = changes(before, snapshot(run_dir))
    check("log.jsonl" in changed and any(name.startswith("checkpoints/") for name in changed),
          f"control: as owner again, {ranks} ranks went on and changed {len(changed)} files")


def main():
    folder = runs.work_folder()
    chance = random.Random(5)
    try:
        config = runs.write_config(folder, STEPS)
        runs.run(config, folder / "undisturbed", 1)
        expected = runs.content_hash(folder / "undisturbed")
        for ranks in (1, 2):
            for dies in (False, True):
                for _ in range(MOMENTS):
                    moment(config, folder / "run", ranks, dies, chance, expected)
            control(config, folder / "run", ranks, chance)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
