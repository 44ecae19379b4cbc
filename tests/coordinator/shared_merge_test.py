#!/usr/bin/env python3
"""W' built by all ranks of a host, each a share: the bits of building all, no matrix built twice on a
host, and a matrix of another z or with a bent bit is refused and its giver named."""
import json
import os
import shutil
import socket
import subprocess

import runs
from runs import check

STEPS = 3
ODD = ["unshare", "--uts", "sh", "-c", 'hostname odd && exec "$@"', "sh"]


def built(run_dir):
    """W' that each rank has built, of the last step."""
    return runs.log_steps(run_dir)[STEPS]["merged_by_rank"]


def one_host(folder, config):
    for dtype in ("float32", "bfloat16"):
        hashes, replies, counts = set(), set(), {}
        for ranks in (1, 2, 3):
            run_dir = folder / f"{dtype}{ranks}"
            runs.run(config, run_dir, ranks, "--set", f"model.dtype={dtype}")
            hashes.add(runs.content_hash(run_dir))
            replies.add(json.dumps([(step["z_hash"], step["mean_tokens"], step["reward"], step["merge_gain"])
                                    for _, step in sorted(runs.log_steps(run_dir).items())]))
            counts[ranks] = built(run_dir)
        check(len(hashes) == 1 and len(replies) == 1,
              f"{dtype}: 1 rank builds all, 2 and 3 share: hash {hashes}")
        total = counts[1][0]
        check(total > 0 and all(sum(some) == total and min(some) > 0 for some in counts.values()),
              f"matrices built by rank: {counts}")
    return runs.content_hash(folder / "float321"), total


def two_hosts(folder, config, expected, total):
    """Two ranks of one host beside one that is alone on another."""
    run_dir = folder / "hosts"
    words = runs.command(config, run_dir, 1)
    done = subprocess.run([*runs.MPIRUN, "-n", "2", *words, ":", "-n", "1", *ODD, *words],
                          capture_output=True, text=True, timeout=300)
    check(done.returncode == 0, f"two hosts: code {done.returncode}")
    counts = built(run_dir)
    check(sum(counts[:2]) == total and min(counts) > 0 and counts[2] == total,
          f"on two hosts: built by rank {counts}")
    check(runs.content_hash(run_dir) == expected, "with the same hash")


def refused(folder, config, expected):
    """Rank 1 gives what it should not. Control: told so of no rank that is there, it does no harm."""
    fault, run_dir = folder / "fault", folder / "refused"
    environment = dict(os.environ, SVFLEET_TEST_FAULT=str(fault))
    host = socket.gethostname()

    def start(kind, rank):
        fault.write_text(f"{kind} {host} {rank}")
        return subprocess.run(runs.command(config, run_dir, 3), capture_output=True, text=True,
                              timeout=120, env=environment)

    for kind, words in (("bent_weight", "that is not what it built"),
                        ("stale_weight", "built with another z")):
        done = start(kind, 1)
        report = json.loads((run_dir / "exit.json").read_text())
        check(done.returncode == 75 and report["code"] == 75 and report["hosts"] == [host] and
              f"rank 1 (host {host}) gave W' of model.layers." in report["reason"] and
              words in report["reason"], f"{kind}: {report['reason']}")
        lines = [line for line in done.stderr.splitlines() if line.startswith("svfleet: ")]
        check(len(lines) == 1 and words in lines[0], "in one line")
    check(runs.newest_step(run_dir) in (0, 1), f"saved was step {runs.newest_step(run_dir)}")
    done = start("stale_weight", 3)
    check(done.returncode == 0 and runs.content_hash(run_dir) == expected,
          "resumed to the undisturbed hash, with a fault of a rank that is not there")


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, STEPS)
        expected, total = one_host(folder, config)
        if subprocess.run([*ODD, "true"], capture_output=True).returncode:
            print("skipped: two hosts (no other host name can be had here)", flush=True)
        else:
            two_hosts(folder, config, expected, total)
        refused(folder, config, expected)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
