#!/usr/bin/env python3
"""What a start looks at before it computes, on whole jobs: a disk that is too small, ranks with
different configurations, and what is told when all is well."""
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import runs
from runs import check

DISK = 74


def start(arguments, ranks=1):
    launcher = [] if ranks == 1 else runs.MPIRUN + ["-n", str(ranks)]
    begin = time.time()
    done = subprocess.run(launcher + [runs.SVFLEET, *map(str, arguments), "--quiet"],
                          capture_output=True, text=True, timeout=120)
    done.seconds = time.time() - begin
    done.ours = [line for line in done.stderr.splitlines() if line.startswith("svfleet: ")]
    return done


def well(folder, config):
    for ranks in (1, 3):
        run_dir = folder / f"run{ranks}"
        done = runs.run(config, run_dir, ranks)
        line = next(line for line in done.stderr.splitlines() if "preflight: " in line)
        parts = ["1 rank on 1 host, ", " free"] if ranks == 1 else [
            "3 ranks on 1 host, all-reduce of 1 MiB in ", " ms, clocks within ", " free"]
        check(all(part in line for part in parts), line)
        event = json.loads((run_dir / "log.jsonl").read_text().splitlines()[0])
        told = event["preflight"]
        check(event["name"] == "start" and told["ranks"] == ranks and told["free_bytes"] > 0,
              f"the start event has it: {told}")
        if ranks > 1:
            check(0 < told["all_reduce_s"] < 10 and told["slowest_rank"] in range(3) and
                  0 <= told["clocks_within_s"] < 5, "with the all-reduce and the clocks")


def different_configurations(folder, config):
    """mpirun gives the second rank other settings."""
    one = [runs.SVFLEET, "train", config, "--set", f"run_dir={folder}/unequal", "--quiet"]
    done = subprocess.run(runs.MPIRUN + ["-n", "1", *one, ":", "-n", "1", *one, "--set",
                                         "train.seed=1"], capture_output=True, text=True, timeout=120)
    host = os.uname().nodename
    ours = [line for line in done.stderr.splitlines() if line.startswith("svfleet: ")]
    check(done.returncode == 2 and len(ours) == 1 and
          f"the configuration of rank 1 (host {host}) differs from that of rank 0 (host {host})"
          in ours[0], f"another configuration on a rank: {done.returncode} {ours}")
    done = subprocess.run(runs.MPIRUN + ["-n", "1", *one, ":", "-n", "2", *one, "--set",
                                         "train.seed=1"], capture_output=True, text=True, timeout=120)
    check(f"of ranks 1 (host {host}), 2 (host {host}) differs" in done.stderr, "or on two ranks")


def small_disk(folder, config):
    """A disk of memory that is too small, which only root can mount."""
    disk = folder / "disk"
    disk.mkdir()

    def mount(size):
        return subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=777",
                               "svfleet-test", str(disk)], capture_output=True).returncode == 0

    if not mount("256k"):
        print("SKIPPED: disks that are too small (mounting needs root)", flush=True)
        return
    try:
        for ranks in (1, 2):
            done = start(["train", config, "--set", f"run_dir={disk}/run"], ranks)
            check(done.returncode == DISK and len(done.ours) == 1 and
                  "the disk of the run folder is too full" in done.ours[0] and
                  f"'{disk}/run'" in done.ours[0] and "free space" in done.ours[0],
                  f"a disk too small for the run, {ranks} ranks: {done.ours}")
            check(not list((disk / "run").rglob("*.h5")) and done.seconds < 30,
                  f"refused after {done.seconds:.1f} s, before anything was computed")
            report = json.loads((disk / "run/exit.json").read_text())
            check(report["code"] == DISK and "too full" in report["reason"], "exit.json says so")
        done = start(["decompose", config, "--set", f"svd.store={disk}/new/store"], 2)
        check(done.returncode == DISK and len(done.ours) == 1 and
              "the disk of the factor store is too full" in done.ours[0],
              f"a disk too small for the factors: {done.ours}")
        check(not (disk / "new").exists(), "nothing of them was begun")
        done = start(["train", config, "--set", f"run_dir={folder}/elsewhere", "--set",
                      f"svd.store={disk}/new/store"])
        check(done.returncode == DISK and "factor store" in done.ours[0], "nor when training")
        subprocess.run(["umount", str(disk)], check=True)

        # Large enough for the run, and then filled up around it: what is left to write fits.
        mount("1m")
        short = ["--set", f"run_dir={disk}/run", "--set", "train.keep_checkpoints=1"]
        done = start(["train", config, *short, "--set", "train.steps=4"])
        check(done.returncode == 0, f"a disk that is large enough {done.ours}")
        stat = os.statvfs(disk)
        filler = disk / "filler"
        filler.write_bytes(bytes(stat.f_bavail * stat.f_frsize - 256 * 1024))
        done = start(["train", config, *short])
        check(done.returncode == 0, f"a full disk on which a run lives: it goes on {done.ours}")
        check(runs.content_hash(disk / "run") == runs.content_hash(folder / "run1"),
              "to the undisturbed hash")
        stat = os.statvfs(disk)
        (disk / "filler2").write_bytes(bytes(stat.f_bavail * stat.f_frsize - 16 * 1024))
        done = start(["train", config, *short])
        check(done.returncode == 0 and "already finished" in done.stdout,
              "a finished run needs no room")
        done = start(["train", config, *short, "--set", "train.steps=8"])
        check(done.returncode == DISK and "too full" in done.ours[0],
              f"more steps do: {done.ours}")
        (disk / "filler").unlink()
        done = start(["train", config, *short, "--set", "train.steps=8"])
        check(done.returncode == 0 and runs.newest_step(disk / "run") == 8, "and then have it")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False, capture_output=True)


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder)
        well(folder, config)
        different_configurations(folder, config)
        small_disk(folder, config)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
