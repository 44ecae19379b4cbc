#!/usr/bin/env python3
"""Faults of a machine, made on purpose (worker/test_fault.h): whose they are, who is named, and which
code a run ends with."""
import json
import os
import re
import shutil
import subprocess

import runs
from runs import check


def ours(done):
    return [line for line in done.stderr.splitlines() if line.startswith("svfleet: ")]


def exit_report(run_dir):
    return json.loads((run_dir / "exit.json").read_text())


def on_host(name, words, fault=None):
    """The command on a machine of that name, where the file `fault` says what fails."""
    environment = dict(os.environ, **({"SVFLEET_TEST_FAULT": str(fault)} if fault else {}))
    return subprocess.run(["unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh",
                           *map(str, words)], capture_output=True, text=True, timeout=300,
                          env=environment)


def machine(folder, config, expected):
    if on_host("a", ["true"]).returncode:
        print("skipped: faults of a machine (no other host name can be had here)", flush=True)
        return
    fault = folder / "fault"
    run_dir = folder / "machine"
    words = runs.command(config, run_dir, 1, "--set", "workers=1")

    def failing(kind, host):
        fault.write_text(f"{kind} {host}")
        done = on_host(host, words, fault)
        fault.unlink()
        check(len(ours(done)) == 1, f"{kind} on {host}: {' | '.join(ours(done))}")
        return done.returncode, exit_report(run_dir)

    code, report = failing("ecc", "a")
    check(code == 75 and report["code"] == 75 and report["hosts"] == ["a"] and
          "uncorrectable ECC" in report["reason"] and
          re.match(r"rank 0 \(host a\), step 0, chunk 0: the GPU", report["reason"]),
          f"a GPU's fault is its machine's: {report['reason']}")
    code, report = failing("memory", "a")
    check(code == 2 and report["code"] == 2 and report["hosts"] == [] and
          "1125899.9 GB more were asked for" in report["reason"] and
          "step 0, chunk 0" in report["reason"] and "train.prompts_per_chunk" in report["reason"],
          f"more memory than there is, is the user's: {report['reason']}")
    code, report = failing("check", "a")
    check(code == 70 and report["code"] == 70 and "a check broken by a test" in report["reason"],
          f"a broken check is ours: {report['reason']}")
    code, report = failing("unknown", "a")
    check(code == 70 and report["code"] == 70 and "nobody knows this one" in report["reason"],
          f"and so is an unknown exception: {report['reason']}")
    code, report = failing("address", "a")
    check(code == 75 and report["hosts"] == ["a"], f"an illegal address: {report['reason']}")
    code, report = failing("address", "a")
    check(code == 75, "the same again on the same machine")
    code, report = failing("address", "b")
    check(code == 70 and report["code"] == 70 and report["hosts"] == [] and
          "(host b)" in report["reason"] and "it failed there on host a too" in report["reason"],
          f"on a second machine it is ours: {report['reason']}")
    runs.run(config, run_dir, 1)
    check(runs.content_hash(run_dir) == expected, "and then to the undisturbed hash")


def another_state(folder, config, expected):
    """One rank of three computes another state, and is named by the other two; of two ranks, nobody."""
    if on_host("a", ["true"]).returncode:
        return
    fault = folder / "fault"
    fault.write_text("state odd")
    environment = dict(os.environ, SVFLEET_TEST_FAULT=str(fault))
    odd = ["unshare", "--uts", "sh", "-c", 'hostname odd && exec "$@"', "sh"]
    for others in (2, 1):
        run_dir = folder / f"state{others}"
        words = runs.command(config, run_dir, 1)
        done = subprocess.run([*runs.MPIRUN, "-n", str(others), *words, ":", "-n", "1", *odd, *words],
                              capture_output=True, text=True, timeout=120, env=environment)
        report = exit_report(run_dir)
        check(done.returncode == 75 and report["code"] == 75 and runs.newest_step(run_dir) == 0,
              f"another state on one of {others + 1} ranks: code 75, nothing saved")
        named = f"rank {others} (host odd) has another training state after step 1"
        check((report["hosts"] == ["odd"] and named in report["reason"]) if others == 2 else
              (report["hosts"] == [] and "no value has a majority" in report["reason"]),
              report["reason"])
    runs.run(config, run_dir, 1)
    check(runs.content_hash(run_dir) == expected, "resumed to the undisturbed hash")


def out_of_sight(folder, config, expected):
    """A run that is there already, and a machine that has lost the mount of its disk."""
    if on_host("a", ["true"]).returncode:
        return
    run_dir = folder / "out_of_sight"
    words = runs.command(config, run_dir, 1)
    hidden = ["unshare", "--uts", "--mount", "sh", "-c",
              f'hostname odd && mount -t tmpfs tmpfs {run_dir} && exec "$@"', "sh"]

    def start():
        return subprocess.run([*runs.MPIRUN, "-n", "2", *words, ":", "-n", "1", *hidden, *words],
                              capture_output=True, text=True, timeout=120)

    run_dir.mkdir()
    done = start()
    if "mount" in done.stderr and "svfleet" not in done.stderr:
        print("skipped: a run out of sight (nothing can be mounted here)", flush=True)
        return
    check(done.returncode == 2 and "not the same folder" in " ".join(ours(done)),
          f"a folder of each machine's own: {' | '.join(ours(done))}")
    done = start()
    report = exit_report(run_dir)
    check(done.returncode == 74 and report["hosts"] == ["odd"] and
          "is out of sight on rank 2 (host odd)" in report["reason"],
          f"a run that is there already: {report['reason']}")
    runs.run(config, run_dir, 2)
    check(runs.content_hash(run_dir) == expected, "resumed to the undisturbed hash")


def model_out_of_sight(folder, config):
    """One machine of two has lost the mount of the model's disk: that is no error of the user."""
    if on_host("a", ["true"]).returncode:
        return
    model, run_dir = folder / "model", folder / "model_out_of_sight"
    shutil.copytree(runs.SOURCE / "tests/data/models/tiny_llama3", model)
    words = runs.command(config, run_dir, 1, "--set", f"model.path={model}")
    hidden = ["unshare", "--uts", "--mount", "sh", "-c",
              f'hostname odd && mount -t tmpfs tmpfs {model} && exec "$@"', "sh"]
    done = subprocess.run([*runs.MPIRUN, "-n", "1", *words, ":", "-n", "1", *hidden, *words],
                          capture_output=True, text=True, timeout=120)
    if "mount" in done.stderr and "svfleet" not in done.stderr:
        print("skipped: a model out of sight (nothing can be mounted here)", flush=True)
        return
    report = exit_report(run_dir)
    check(report["code"] == 74 and report["hosts"] == ["odd"] and
          "rank 1 (host odd)" in report["reason"] and "no config.json" in report["reason"],
          f"a model that one machine does not see: {report['code']}, {report['reason']}")


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, 6)
        run_dir = folder / "undisturbed"
        runs.run(config, run_dir, 1)
        expected = runs.content_hash(run_dir)
        machine(folder, config, expected)
        another_state(folder, config, expected)
        out_of_sight(folder, config, expected)
        model_out_of_sight(folder, config)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
