#!/usr/bin/env python3
"""Two nodes of a real Slurm give the bits of one process, also when a node's rank is killed and
the run goes on elsewhere."""
import shutil
import subprocess
import time

import slurm  # finds runs
import runs
from runs import check
from slurm import BOX, box


def srun(config, run_dir, nodes, ranks):
    return ["run", "srun", f"-N{nodes}", f"-n{ranks}", "--mpi=pmix", "--cpus-per-task=1",
            "--kill-on-bad-exit=1", runs.SVFLEET, "train", config, "--set", f"run_dir={run_dir}",
            "--quiet"]


def run_tests(folder):
    config = runs.write_config(folder)
    alone = folder / "alone"
    runs.run(config, alone, 1)
    expected = runs.content_hash(alone)

    two = folder / "two_nodes"
    done = box(*srun(config, two, 2, 2))
    check(done.returncode == 0, "two nodes: " + (done.stderr.strip() or "finished"))
    worked = [sum(c) for c in zip(*(r["chunks_by_rank"]
                                    for r in runs.log_steps(two).values()))]
    check(all(worked), f"chunks computed by the nodes' ranks: {worked}")
    check(runs.content_hash(two) == expected, f"two nodes end with hash {expected}")

    killed = folder / "killed"
    job = subprocess.Popen([BOX, *srun(config, killed, 2, 4)], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    while job.poll() is None and len(runs.journal(killed)) < 3:
        time.sleep(0.01)
    subprocess.run(["pkill", "-9", "-n", "-f", f"{runs.SVFLEET} train {config}"])
    job.wait(timeout=60)
    print(f"killed a rank in step {runs.newest_step(killed)} with "
          f"{len(runs.journal(killed))} chunks finished: srun ended with {job.returncode}")
    done = box(*srun(config, killed, 1, 2))
    check(done.returncode == 0, "resumed on one node: " + (done.stderr.strip() or "finished"))
    check(runs.content_hash(killed) == expected, "the same hash after the kill")


def main():
    folder = runs.work_folder()
    try:
        with slurm.nodes(2):
            run_tests(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
