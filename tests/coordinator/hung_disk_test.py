#!/usr/bin/env python3
"""A disk that hangs under a run, with the program, the run folder, the factors and the job's output
all on it: the ranks end by themselves, and the run goes on when the disk is back."""
import os
import shutil
import signal
import subprocess
import sys
import time

import runs
from hanging_disk import HangingDisk
from runs import check

# A chunk that stands still is given up after 60 s, 10 s later where rank 0 could not say it; what cannot
# be said costs 5 s more. The rest is for a crowded machine.
MOST_S = 60 + 10 + 5 + 40


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Run:
    def __init__(self, disk, config, ranks):
        self.ranks, self.config = ranks, config
        self.run_dir, self.output = disk.at / f"run{ranks}", disk.at / f"output{ranks}.txt"
        with open(self.output, "ab") as output:
            self.job = subprocess.Popen(runs.command(config, self.run_dir, ranks), stdout=output,
                                        stderr=output)

    def until_computing(self):
        """It has steps behind it and is inside one."""
        while (runs.newest_step(self.run_dir) or 0) < 2 or not runs.journal(self.run_dir):
            if self.job.poll() is not None:
                sys.exit(f"FAILED: the run ended with {self.job.returncode}")
            time.sleep(0.01)
        self.pids = ([self.job.pid] if self.ranks == 1 else
                     list(runs.ranks_of(self.job.pid).values()))
        check(len(self.pids) == self.ranks, f"{self.ranks} ranks compute")

    def over(self):
        return not any(map(lives, self.pids))


def ends(started, start):
    """Seconds to the end of the last rank of each run, by its number of ranks."""
    ended = {}
    while len(ended) < len(started) and time.time() < start + MOST_S + 60:
        for run in started:
            if run.ranks not in ended and run.over():
                ended[run.ranks] = time.time() - start
        time.sleep(0.1)
    return ended


def main():
    folder = runs.work_folder()
    disk = HangingDisk(folder)
    try:
        runs.SVFLEET = runs.copy_program(disk.at)
        config = runs.write_config(disk.at, steps=80, tokens=48)
        undisturbed = disk.at / "undisturbed"
        runs.run(config, undisturbed, 1)
        expected = runs.content_hash(undisturbed)
        started = [Run(disk, config, ranks) for ranks in (1, 2)]
        for run in started:
            run.until_computing()
        disk.hang([pid for run in started for pid in run.pids])
        ended = ends(started, time.time())
        # A launcher that has something to write to the job's output hangs with it; a job script does
        # not wait for it for ever.
        for run in started:
            if run.job.poll() is None and run.ranks > 1:
                time.sleep(2)
                run.job.kill()
        disk.answer()
        for run in started:
            for pid in run.pids:
                if lives(pid):
                    os.kill(pid, signal.SIGKILL)
            code = run.job.wait(timeout=30)
            print(f"--- {run.ranks} ranks, code {code}:\n{run.output.read_text()[-800:]}", flush=True)
            check(run.ranks in ended, f"{run.ranks} ranks end by themselves")
            check(ended[run.ranks] < MOST_S, f"{ended[run.ranks]:.1f} s after the hang")
            if run.ranks == 1:  # else the launcher's, which may hang
                check(code == 75, "with code 75: start again")
            runs.run(config, run.run_dir, run.ranks)
            check(runs.content_hash(run.run_dir) == expected, "resumed to the undisturbed hash")
    finally:
        disk.unmount()
        shutil.rmtree(folder, ignore_errors=True)


main()
