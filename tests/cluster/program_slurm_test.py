#!/usr/bin/env python3
"""A rebuild does not end a run: on a real Slurm, jobs start the copy of the program that was submitted and
the libraries that it had then. The other libtorch is a copy whose build id was altered."""
import json
import os
import shutil
import subprocess
from pathlib import Path

import slurm  # finds runs
import runs
from runs import check
from slurm import box, ended, output, state, wait_until

WORDS = ["--nodes", "2", "--cpus-per-task", "2", "--partition", "low", "--time", "10", "--json"]


def submit(program, config, run_dir, *more):
    done = box("run", str(program), "submit", config, "--set", f"run_dir={run_dir}", *WORDS, *more)
    return done, (json.loads(done.stdout)["jobs"][0] if done.returncode == 0 else None)


def submitted(*words):
    done, job = submit(*words)
    check(done.returncode == 0, f"submitted: {done.stdout.strip()} {done.stderr.strip()}")
    return job


def wait_for_step(run_dir, step):
    wait_until(lambda: (runs.newest_step(run_dir) or 0) >= step, 180, f"step {step}")


def rebuild(program):
    """Another build in the place of `program`: it does the same and has other bytes."""
    new = Path(f"{program}.new")
    new.write_bytes(program.read_bytes() + b"\0")
    new.chmod(0o755)
    new.rename(program)


def another_libtorch(folder):
    """Like the folder of torch, with a libtorch_cpu.so of its own."""
    record = subprocess.run(["ldd", runs.SVFLEET], capture_output=True, text=True, check=True).stdout
    cpu = next(line.split()[2] for line in record.splitlines() if "libtorch_cpu.so" in line)
    real = Path(cpu).resolve()
    site = folder / "site"
    lib = site / "torch" / "lib"
    lib.mkdir(parents=True)
    for path in real.parent.iterdir():
        if path.name != real.name:
            (lib / path.name).symlink_to(path)
    nvidia = real.parents[2] / "nvidia"  # libtorch looks for it beside its own folder
    if nvidia.is_dir():
        (site / "nvidia").symlink_to(nvidia)
    shutil.copyfile(real, lib / real.name)
    return lib / real.name


def alter(libtorch, build):
    """Its build id is another from now on, and returned; `build`: the 16 digits that are known of it."""
    new = libtorch.with_suffix(".new")
    data = bytearray(libtorch.read_bytes())
    at = data.find(bytes.fromhex(build))
    check(at > 0 and data.count(bytes.fromhex(build)) == 1, "found the build id of libtorch")
    data[at] ^= 1
    new.write_bytes(bytes(data))
    new.rename(libtorch)
    return bytes(data[at:at + 8]).hex()


def preempted(folder, config, program, expected):
    """The program is replaced while the job runs, and the job started again."""
    run_dir = folder / "preempted"
    old = program.read_bytes()
    job = submitted(program, config, run_dir)
    wait_for_step(run_dir, 2)
    rebuild(program)
    box("run", "sbatch", "-p", "high", "-N2", "-n2", "-w", "n1,n2", "-o", "/dev/null", "--wrap", "sleep 1")
    wait_until(lambda: state(job)[1] >= 1, 90, "requeue")
    at = runs.newest_step(run_dir)
    wait_until(lambda: ended(job), 240, "the end")
    check(state(job)[0] == "COMPLETED", f"rebuilt, preempted in step {at}, started again: {state(job)}")
    check(runs.content_hash(run_dir) == expected, f"the undisturbed hash {expected}")
    copy = run_dir / "bin" / "svfleet"
    check(copy.read_bytes() == old != program.read_bytes(), "its jobs had the bytes that were submitted")


def submitted_again(folder, config, program, expected):
    """A run that goes on keeps its program, whoever submits it."""
    run_dir = folder / "again"
    original = folder / "original"
    shutil.copy2(program, original)
    job = submitted(program, config, run_dir)
    wait_for_step(run_dir, 1)
    subprocess.run([str(program), "stop", str(run_dir)], check=True)
    wait_until(lambda: ended(job), 120, "the stop")
    at = runs.newest_step(run_dir)
    copy = run_dir / "bin" / "svfleet"
    rebuild(program)

    by_hand = [str(program), "train", config, "--set", f"run_dir={run_dir}", "--quiet"]
    done = subprocess.run(by_hand, capture_output=True, text=True)
    check(done.returncode == 2 and "submitted with another program" in done.stderr
          and f"start '{copy}' instead" in done.stderr and "\n" not in done.stderr.strip(),
          "by hand with another program: " + done.stderr.strip())
    (run_dir / "stop.json").write_text("{}")  # it is to end at once
    done = subprocess.run([str(original), *by_hand[1:]], capture_output=True, text=True)
    check(done.returncode == 0 and f"resuming after step {at}" in done.stderr,
          "by hand with the same program: " + done.stderr.strip())

    done, job = submit(program, config, run_dir)
    check(done.returncode == 0 and "goes on with its own program" in done.stderr,
          "submitted again by another build: " + done.stderr.strip())
    check(copy.read_bytes() == original.read_bytes() != program.read_bytes(), "the copy is as it was")
    wait_until(lambda: ended(job), 180, "the end")
    check(state(job)[0] == "COMPLETED" and runs.content_hash(run_dir) == expected,
          f"and ends with the undisturbed hash: {state(job)}")


def libtorch_changed(folder, config, program, build):
    libtorch = another_libtorch(folder)
    ours = {"LD_LIBRARY_PATH": str(libtorch.parent)}
    few = ["--set", "train.steps=2"]

    os.environ.update(ours)
    changed = folder / "changed"
    job = submitted(program, config, changed, *few, "--sbatch=--hold")
    record = json.loads((changed / "bin" / "program.json").read_text())
    check(str(libtorch) in record["libraries"] and build in record["torch"],
          f"submitted with {record['torch']} of {libtorch}")
    other = alter(libtorch, build)
    box("run", "scontrol", "release", job)
    wait_until(lambda: ended(job), 120, "the end of a job whose libtorch has changed")
    text = output(changed)
    check(state(job) == ("FAILED", 0, "2:0") and build in text and other in text,
          f"its libtorch has changed since: {state(job)}, "
          + next((line for line in text.splitlines() if "libtorch has changed" in line), text))

    # A job gets the libraries of the submission, whatever the environment is that it starts from.
    altered = folder / "altered"
    job = submitted(program, config, altered, *few, "--sbatch=--export=NONE")
    wait_until(lambda: ended(job), 120, "the end of a job with the altered libtorch")
    check(state(job)[0] == "COMPLETED", f"without LD_LIBRARY_PATH of its own: {state(job)}")

    # A run that goes on is not submitted with another libtorch. The control: with its own it is.
    del os.environ["LD_LIBRARY_PATH"]
    done, _ = submit(program, config, altered, "--set", "train.steps=3")
    check(done.returncode == 2 and other in done.stderr and build in done.stderr,
          "another libtorch: " + done.stderr.strip())
    os.environ.update(ours)
    done, job = submit(program, config, altered, "--set", "train.steps=3")
    check(done.returncode == 0, "with its own: " + done.stderr.strip())
    del os.environ["LD_LIBRARY_PATH"]
    wait_until(lambda: ended(job), 120, "the end of the third job")


def run_tests(folder):
    config = slurm.own_copies(folder, steps=40, tokens=48)
    program = Path(runs.SVFLEET)
    alone = folder / "alone"
    runs.run(config, alone, 1)
    expected = runs.content_hash(alone)
    preempted(folder, config, program, expected)
    submitted_again(folder, config, program, expected)
    record = json.loads((folder / "again" / "bin" / "program.json").read_text())
    build = record["torch"].split("(build ")[1].rstrip(")")
    libtorch_changed(folder, config, program, build)


def main():
    with slurm.shared_folder() as folder, slurm.nodes(2):
        run_tests(folder)


main()
