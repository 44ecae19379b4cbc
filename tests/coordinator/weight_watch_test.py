#!/usr/bin/env python3
"""A bit that flips in memory while a run goes on: in a weight or in a basis, written into the process from
outside. The run stops with 75 and its name, goes on from the last clean checkpoint, and ends with the
hash of an undisturbed one."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import runs
from runs import check

sys.path.append(str(runs.SOURCE / "scripts"))
from chaos_bench import memory  # noqa: E402

STEPS, FLIP_IN, CHUNKS = 20, 3, 8
W, Q = "model.layers.1.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"


def inside(run_dir, step):
    """Whether some of its chunks are finished and others are not."""
    try:
        return runs.newest_step(run_dir) == step - 1 and 0 < len(runs.journal(run_dir)) < CHUNKS
    except FileNotFoundError:
        return False


def wait_for_step(job, run_dir, step):
    end = time.time() + 120
    while not inside(run_dir, step):
        if job.poll() is not None or time.time() > end:
            sys.exit(f"FAILED: step {step} was not seen")
        time.sleep(0.001)


def disturbed(folder, config, what, content, rank, ranks):
    """A run whose rank has one bit of `content` flipped in step FLIP_IN; or None when it came later."""
    run_dir = folder / f"flipped-{what}-{ranks}"
    shutil.rmtree(run_dir, ignore_errors=True)
    job = subprocess.Popen(runs.command(config, run_dir, ranks), stderr=subprocess.PIPE, text=True)
    wait_for_step(job, run_dir, FLIP_IN)
    pids = runs.ranks_of(job.pid)
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    in_time = inside(run_dir, FLIP_IN)
    places = memory.flip(pids[rank], content) if in_time else 0
    for pid in pids.values():
        os.kill(pid, signal.SIGCONT)
    if not in_time:
        runs.kill_all_below(job)
        return None
    check(places > 0, f"a bit of {what} flipped in step {FLIP_IN} on rank {rank}, {places} copies")
    errors = job.communicate(timeout=300)[1]
    return run_dir, job.returncode, [line for line in errors.splitlines() if line.startswith("svfleet: ")]


def flipped(folder, config, expected, what, name, content, rank, ranks):
    for _ in range(20):
        if result := disturbed(folder, config, what, content, rank, ranks):
            break
    else:
        sys.exit(f"FAILED: no bit could be flipped in step {FLIP_IN}")
    run_dir, code, said = result
    report = json.loads((run_dir / "exit.json").read_text())
    check((code == 75 or ranks > 1) and report["code"] == 75 and name in report["reason"] and
          f"on rank {rank}" in report["reason"], f"the run stops with 75: {report['reason']}")
    check(any(name in line for line in said), "and says so")
    check(report["hosts"] == [socket.gethostname()], f"and names the host: {report['hosts']}")
    clean = json.loads((run_dir / "clean.json").read_text())
    newest = runs.newest_step(run_dir)
    check(clean["step"] < FLIP_IN and newest <= clean["step"] and not clean["changed"],
          f"the newest checkpoint is that of step {newest}, made before the flip")
    check(not runs.journal(run_dir), "and no chunk that was made with it is kept")
    runs.run(config, run_dir, ranks)
    check(runs.content_hash(run_dir) == expected, "started again, it ends with the undisturbed hash")
    check(runs.content_hash(run_dir / "experts/final.safetensors") ==
          runs.content_hash(folder / "undisturbed/experts/final.safetensors"), "and expert")
    check(json.loads((run_dir / "clean.json").read_text())["step"] == STEPS,
          "all of which is known to be clean")
    return run_dir


def nothing_flipped(folder, config, expected):
    """Control: stopping a process and looking through its memory changes nothing."""
    run_dir = folder / "control"
    job = subprocess.Popen(runs.command(config, run_dir, 1), stderr=subprocess.PIPE, text=True)
    wait_for_step(job, run_dir, FLIP_IN)
    pid = runs.ranks_of(job.pid)[0]
    os.kill(pid, signal.SIGSTOP)
    places = memory.flip(pid, [os.urandom(memory.SAMPLE)])
    os.kill(pid, signal.SIGCONT)
    job.communicate(timeout=300)
    check(places == 0 and job.returncode == 0 and runs.content_hash(run_dir) == expected,
          "control: what is not there is not flipped, and the run ends as it should")


def suspects_are_named(folder, config, run_dir):
    checkpoint = sorted((run_dir / "checkpoints").glob("step-*.h5"))[-1]
    shutil.copy(checkpoint, f"{checkpoint}.suspect")
    text = Path(config).read_text().replace(f"run_dir: {folder}/run", f"run_dir: {run_dir}")
    other = folder / "verify.yaml"
    other.write_text(text)
    done = subprocess.run([runs.SVFLEET, "verify", str(other), "--quiet", "--json"], capture_output=True,
                          text=True, timeout=120)
    # A flip that was noticed late has set aside more.
    there = sorted(str(path) for path in (run_dir / "checkpoints").glob("*.suspect"))
    check(f"{checkpoint}.suspect" in there and done.returncode == 0 and sorted(json.loads(done.stdout)["suspect"]) == there,
          f"verify names suspect checkpoints, which are not damaged: {done.returncode} {done.stdout} {done.stderr}")


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, STEPS, tokens=12)
        # One chunk at a time: for longer some chunks of a step are finished and others are not.
        text = Path(config).read_text()
        Path(config).write_text(text.replace("prompts_per_chunk: 1", "prompts_per_chunk: 1\n  rows_per_worker: 1"))
        undisturbed = folder / "undisturbed"
        runs.run(config, undisturbed, 1)
        expected = runs.content_hash(undisturbed)
        model = runs.SOURCE / "tests/data/models/tiny_llama3"
        weight = memory.tensor_bytes(model, W)
        basis = memory.basis_bytes(model, folder / "store", Q)
        flipped(folder, config, expected, "W", W, weight, 0, 1)
        flipped(folder, config, expected, "Q", f"Q of {Q}", basis, 0, 1)
        run_dir = flipped(folder, config, expected, "W", W, weight, 1, 2)
        nothing_flipped(folder, config, expected)
        suspects_are_named(folder, config, run_dir)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
