#!/usr/bin/env python3
"""Wrong submissions are refused before the queue, each with one clear line; stand-ins answer for
Slurm's commands, and sbatch must not be called for any of them."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "coordinator"))
import runs

PARTITIONS = (
    "PartitionName=low Default=YES MaxNodes=UNLIMITED MaxTime=1-00:00:00 MinNodes=0 "
    "MaxCPUsPerNode=UNLIMITED State=UP TotalNodes=4\n"
    "PartitionName=old Default=NO MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 State=DOWN "
    "TotalNodes=4\n")
NODES = "low|4|2|1000|(null)\nold|4|2|1000|(null)\n"


def stand_ins(folder):
    programs = {"scontrol": f"cat <<'E'\n{PARTITIONS}E", "sinfo": f"cat <<'E'\n{NODES}E",
                "sbatch": f"echo called >> {folder}/sbatch.log; echo '17;cluster'"}
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name, body in programs.items():
        (bin_folder / name).write_text("#!/bin/sh\n" + body + "\n")
        (bin_folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}


def submit(environment, config, *more):
    return subprocess.run([runs.SVFLEET, "submit", config, *more], capture_output=True, text=True,
                          env=environment, timeout=60)


def main():
    folder = Path(tempfile.mkdtemp(prefix="svfleet-submit-", dir="/var/tmp"))
    try:
        environment = stand_ins(folder)
        config = runs.write_config(folder)
        # The source tree may lie on a disk that counts as node-local.
        model = folder / "model"
        shutil.copytree(runs.SOURCE / "tests/data/models/tiny_llama3", model)
        good = ["--set", f"model.path={model}", "--nodes", "2"]
        empty = folder / "empty"
        empty.mkdir()
        lost = folder / "lost.yaml"
        lost.write_text(Path(config).read_text().replace("max3/train.jsonl", "max3/gone.jsonl"))
        typo = folder / "typo.yaml"
        typo.write_text(Path(config).read_text().replace("learning_rate", "lerning_rate"))

        wrong = [  # what is given beside the good words, and what the line must say
            (str(folder / "none.yaml"), [], "none.yaml"),
            (str(typo), [], "lerning_rate"),
            (str(lost), [], "gone.jsonl"),
            (config, ["--set", f"model.path={folder}/nowhere"], "nowhere"),
            (config, ["--set", f"model.path={empty}"], "config.json"),
            (config, ["--set", "run_dir=/tmp/run"], "/tmp is each machine's own"),
            (config, ["--set", "run_dir=/dev/shm/run"], "run_dir '/dev/shm/run' is not seen by all"),
            (config, ["--set", "svd.store=/tmp/store"], "svd.store '/tmp/store'"),
            (config, ["--allow-local"], "--allow-local is for a single node"),
            (config, ["--nodes", "0"], "--nodes"),
            (config, ["--nodes", "many"], "--nodes"),
            (config, ["--nodes", "5"], "has 4 nodes, --nodes asks for 5"),
            (config, ["--cpus-per-task", "3"], "cores"),
            (config, ["--ranks-per-node", "3"], "cores"),
            (config, ["--partition", "hihg"], "--partition 'hihg' does not exist"),
            (config, ["--partition", "old"], "is DOWN"),
            (config, ["--partition", "low --wrap=x"], "'low --wrap=x' may hold letters"),
            (config, ["--time", "8h"], "--time '8h' is no time limit"),
            (config, ["--time", "2-00:00:00"], "allows 1 days"),
            (config, ["--time", "2"], "--time 2 is too short"),
            (config, ["--mem", "lots"], "--mem 'lots' is no size"),
            (config, ["--mem", "2G"], "2048 MiB"),
            (config, ["--gres", "gpu:1"], "--gres gpu:1"),
            (config, ["--chain", "0"], "--chain"),
            (config, ["--job-name", "a\nb"], "--job-name"),
        ]
        for file, words, expected in wrong:
            names = set(words[::2])
            kept = [w for i in range(0, len(good), 2) for w in good[i:i + 2]
                    if good[i] not in names or good[i] == "--set"]
            done = submit(environment, file, *kept, *words)
            shown = f"{Path(file).name} {' '.join(words)!r}"
            line = done.stderr.rstrip("\n")
            if done.returncode != 2 or expected not in line or "\n" in line or done.stdout:
                sys.exit(f"FAILED: {shown}: code {done.returncode}, {done.stdout!r}, "
                         f"stderr {done.stderr!r}, expected {expected!r}")
            print(f"ok: {shown}\n      {line}")
        if (folder / "sbatch.log").exists():
            sys.exit("FAILED: sbatch was called for a wrong submission")

        bare = {**os.environ, "PATH": str(empty)}
        done = submit(bare, config, *good)
        if done.returncode != 2 or "is not installed here" not in done.stderr:
            sys.exit(f"FAILED: without Slurm: {done}")
        done = submit(bare, config, *good, "--dry-run")
        if done.returncode != 0 or not done.stdout.startswith("#!/bin/bash\n"):
            sys.exit(f"FAILED: dry run without Slurm: {done}")
        done = submit(environment, config, *good, "--dry-run")
        if done.returncode != 0 or (folder / "run").exists() or done.stderr:
            sys.exit(f"FAILED: a dry run must leave nothing behind: {done}")
        # The control: the same words without a fault are handed in, a chain once a job.
        done = submit(environment, config, *good, "--chain", "3", "--json")
        told = json.loads(done.stdout)
        calls = (folder / "sbatch.log").read_text().splitlines()
        if told["jobs"] != ["17"] * 3 or len(calls) != 3:
            sys.exit(f"FAILED: a good submission: {done}, sbatch called {len(calls)} times")
        print(f"ok: {len(wrong)} wrong submissions refused, a good one handed in")

        # A child run: the job gets the parent and no configuration but the parent's.
        parent = folder / "parent"
        parent.mkdir()
        (parent / "run.json").write_text('{"run_id": "1"}')
        (parent / "config.yaml").write_text(Path(config).read_text())
        words = [*good, "--set", f"run_dir={folder}/child", "--dry-run"]
        fork = [runs.SVFLEET, "submit", "--fork", f"{parent}@12"]
        done = subprocess.run(fork + words, capture_output=True, text=True, env=environment)
        line = f"arguments=('train' '--fork' '{parent}@12' '--set' 'model.path={model}' "
        if done.returncode != 0 or line not in done.stdout:
            sys.exit(f"FAILED: a child run: {done}")
        done = subprocess.run(fork + good, capture_output=True, text=True, env=environment)
        if done.returncode != 2 or "--set run_dir=" not in done.stderr:
            sys.exit(f"FAILED: a child run without a folder of its own: {done}")
        print("ok: a child run is handed on")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
