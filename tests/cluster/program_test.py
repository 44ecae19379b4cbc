#!/usr/bin/env python3
"""Which program the jobs of a run start: a copy that stays once the run has begun or while a job waits for
it, and is whole. Stand-ins answer for Slurm's commands."""
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import slurm  # finds runs
import runs
from runs import check
from stand_ins import stand_ins, submit


def rebuilt(program, number):
    new = program.with_name(f"rebuilt-{number}")
    new.write_bytes(program.read_bytes() + bytes(number))
    new.chmod(0o755)
    return new


def run_tests(folder):
    environment = stand_ins(folder)
    config = slurm.own_copies(folder, steps=2)
    program, other = Path(runs.SVFLEET), rebuilt(Path(runs.SVFLEET), 1)
    squeue = folder / "bin" / "squeue"

    def handed_in(by, run_dir, *more):
        # A run that has finished needs no job: these have a step to go.
        return submit(environment, config, "--set", f"run_dir={run_dir}", "--set", "train.steps=3", *more,
                      program=str(by))

    def train(by, run_dir, *more):
        return subprocess.run([str(by), "train", config, "--set", f"run_dir={run_dir}", "--quiet", *more],
                              capture_output=True, text=True)

    waits = folder / "waits"
    copy = waits / "bin" / "svfleet"
    check(handed_in(program, waits).returncode == 0 and copy.read_bytes() == program.read_bytes()
          and copy.stat().st_mode & 0o111 == 0o111, "a copy, byte for byte, that can be started")
    check(f"program='{copy}'" in (waits / "job.sh").read_text(), "the script starts the copy")
    record = json.loads((waits / "bin" / "program.json").read_text())
    check(any("libtorch_cpu.so" in file for file in record["libraries"]) and "build" in record["torch"],
          f"its libtorch is known: {record['torch']}")
    check(sorted(path.name for path in (waits / "bin").iterdir()) ==
          ["lib", "nvidia", "program.json", "svfleet"], "nothing else is left there")
    # By hand, without the job's LD_LIBRARY_PATH; and where its libraries are gone.
    started = lambda: subprocess.run([str(copy), "--version"], capture_output=True, text=True)
    check(started().returncode == 0, "the copy starts by itself")
    libtorch = next(file for file in record["libraries"] if "libtorch_cpu.so" in file)
    check((copy.parent / "lib").resolve() == Path(libtorch).parent.resolve(), f"with {libtorch}")
    (copy.parent / "lib").unlink()
    (copy.parent / "lib").symlink_to(folder / "a clone that has moved")
    done = started()
    check(done.returncode == 127 and len(done.stderr.splitlines()) == 1 and ".so" in done.stderr,
          "or says which library is gone: " + done.stderr.strip())
    handed_in(program, waits)
    check(started().returncode == 0, "submitted again it starts again")

    # By hand first, then by the jobs: with the program that began it.
    by_hand = folder / "by_hand"
    check(train(program, by_hand).returncode == 0, "begun by hand")
    done = handed_in(other, by_hand)
    check(done.returncode == 2 and "was begun with another program" in done.stderr
          and not (by_hand / "bin").exists(), "submitted by another: " + done.stderr.strip())
    done = handed_in(other, by_hand, "--allow-different-hardware")
    check(done.returncode == 0, "unless that is accepted " + done.stderr)
    check(handed_in(program, by_hand).returncode == 0, "or it is the same")

    # No checkpoint yet: the copy stays while a job lives, and only so long.
    fresh = folder / "fresh"
    copy = fresh / "bin" / "svfleet"
    handed_in(program, fresh)
    done = handed_in(other, fresh)
    check(done.returncode == 0 and copy.read_bytes() == program.read_bytes()
          and "its own program" in done.stderr, "a job may start it: " + done.stderr.strip())
    squeue.write_text("#!/bin/sh\necho COMPLETED\n")
    done = handed_in(other, fresh)
    check(done.returncode == 0 and copy.read_bytes() == other.read_bytes() and not done.stderr,
          "no job does, and nothing was computed " + done.stderr)

    # Begun: it stays. A damaged one is refused, and mended by the program that it came from.
    check(train(program, fresh).returncode == 2, "by hand with another than was submitted")
    check(train(other, fresh).returncode == 0, "by hand with the same")
    done = handed_in(program, fresh)
    check(done.returncode == 0 and copy.read_bytes() == other.read_bytes()
          and "its own program" in done.stderr, "begun: " + done.stderr.strip())
    runs.flip(copy, -1)
    done = handed_in(program, fresh)
    check(done.returncode == 74 and f"'{copy}' is damaged" in done.stderr, done.stderr.strip())
    done = handed_in(other, fresh)
    check(done.returncode == 0 and copy.read_bytes() == other.read_bytes(), "mended " + done.stderr)
    (fresh / "bin" / "program.json").write_text("{")
    done = handed_in(other, fresh)
    check(done.returncode == 74 and "program.json' is damaged" in done.stderr, done.stderr.strip())


def main():
    folder = Path(tempfile.mkdtemp(prefix="svfleet-program-", dir="/var/tmp"))
    try:
        run_tests(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
