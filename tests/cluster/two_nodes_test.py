#!/usr/bin/env python3
"""Two nodes of a real Slurm give the bits of one process, also when a node's rank is killed and
the run goes on elsewhere."""
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "coordinator"))
import runs

BOX = str(runs.SOURCE / "scripts" / "slurm_box")
SKIPPED = 77  # ctest shows it as skipped


def check(condition, message):
    if not condition:
        sys.exit("FAILED: " + message)
    print("ok: " + message, flush=True)


def box(*arguments, timeout=120):
    return subprocess.run([BOX, *arguments], capture_output=True, text=True, timeout=timeout)


def srun(config, run_dir, nodes, ranks):
    return ["run", "srun", f"-N{nodes}", f"-n{ranks}", "--mpi=pmix", "--cpus-per-task=1",
            "--kill-on-bad-exit=1", runs.SVFLEET, "train", config, "--set", f"run_dir={run_dir}",
            "--quiet"]


def main():
    if not shutil.which("slurmctld"):
        print("skipped: Slurm is not installed (scripts/setup --tests installs it)")
        sys.exit(SKIPPED)
    folder = runs.work_folder()
    box_folder = Path(tempfile.mkdtemp(prefix="svfleet-box-"))
    box_folder.chmod(0o755)  # munge refuses a folder that others can write
    os.environ["SLURM_BOX"] = str(box_folder)
    up = box("up", "2")
    if up.returncode:
        print("skipped: a local Slurm cannot be started here (needs root or user namespaces): "
              + (up.stdout + up.stderr).strip().replace("\n", " | "))
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(SKIPPED)
    try:
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
    finally:
        box("down")
        shutil.rmtree(box_folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


main()
