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

import slurm  # finds runs
import runs
from runs import check
from stand_ins import stand_ins, submit


def out_of_sight(folder, environment, config, good):
    """Each thing that the job opens, below /tmp in turn."""
    with tempfile.TemporaryDirectory(prefix="svfleet-submit-", dir="/tmp") as made:
        local = Path(made)
        shutil.copy2(folder / "run.yaml", local / "run.yaml")
        shutil.copytree(folder / "tasks", local / "tasks")
        expert = local / "start.safetensors"
        expert.write_text("")
        text = Path(config).read_text()
        task = "reward: last_number\ntrain: {at}/tasks/train.jsonl\n"
        (local / "task.yaml").write_text(task.format(at=folder))
        inline = text[text.index("task:"):text.index("train:\n")]
        in_file = folder / "in_file.yaml"
        in_file.write_text(text.replace(inline, f"task: {local}/task.yaml\n"))
        data = folder / "data.yaml"
        data.write_text(text.replace(f"{folder}/tasks/train.jsonl", f"{local}/tasks/train.jsonl"))
        cases = [
            ("the working directory", config, [], {"cwd": local}),
            ("the configuration", str(local / "run.yaml"), [], {}),
            ("task file", str(in_file), [], {}),
            ("task 'vowels': file", str(data), [], {}),
            ("train.init_from", config, ["--set", f"train.init_from={expert}"], {}),
        ]
        for what, file, words, how in cases:
            done = submit(environment, file, *good, *words, **how)
            line = done.stderr.rstrip("\n")
            check(done.returncode == 2 and line.startswith(f"svfleet: {what} '{local}")
                  and "is not seen by all nodes" in line and "\n" not in line, line)
            done = submit(environment, file, *good[:-1], "1", *words, "--allow-local",
                          "--dry-run", **how)
            check(done.returncode == 0, f"{what}: allowed on a single node {done.stderr}")

        # The program is copied to the run folder; its libraries stay where they are.
        moved = runs.copy_program(local / "svfleet")
        done = submit(environment, config, *good, "--dry-run", program=moved)
        check(done.returncode == 0 and f"program='{folder}/run/bin/svfleet'" in done.stdout,
              "the program may lie anywhere " + done.stderr)
        found = subprocess.run(["ldd", moved], capture_output=True, text=True, check=True).stdout
        library = next(line.split()[2] for line in found.splitlines() if "libxxhash" in line)
        (local / "more").mkdir()
        shutil.copy(library, local / "more")
        done = submit({**environment, "LD_LIBRARY_PATH": f"{local}/more"}, config, *good)
        check(done.returncode == 2 and f"the libraries' folder '{local}/more'" in done.stderr,
              "a library that other nodes do not see: " + done.stderr.strip())


def callers_environment(folder, environment, config, good):
    """What SBATCH_* variables ask for is checked too, and nothing of them overrides the script."""
    log = folder / "sbatch.log"
    log.unlink(missing_ok=True)
    for name, value, expected in [
            ("SBATCH_PARTITION", "old", "partition 'old' is DOWN"),
            ("SBATCH_TIMELIMIT", "2-00:00:00", "allows 1 days"),
            ("SBATCH_TIMELIMIT", "8h", "(it comes from SBATCH_TIMELIMIT)"),
            ("SBATCH_GRES", "gpu:1", "--gres gpu:1")]:
        done = submit({**environment, name: value}, config, *good)
        check(done.returncode == 2 and expected in done.stderr, f"{name}={value}: {done.stderr.strip()}")
    check(not log.exists(), "sbatch was called for none of them")

    kept = {"SBATCH_RESERVATION": "r", "SLURM_CONF": "/etc/slurm/slurm.conf", "SLURM_MPI_TYPE": "pmix"}
    gone = {"SBATCH_NO_REQUEUE": "1", "SBATCH_SIGNAL": "KILL@1", "SBATCH_OPEN_MODE": "truncate",
            "SBATCH_PARTITION": "old", "SBATCH_ARRAY_INX": "1-3", "SBATCH_WAIT": "1",
            "SLURM_RESTART_COUNT": "3", "SLURM_TIME_FORMAT": "relative", "SINFO_PARTITION": "none"}
    of_job = {"SLURM_NTASKS": "9", "SLURM_MEM_PER_NODE": "1", "SLURM_JOB_NODELIST": "n9"}
    for job in ({}, {"SLURM_JOB_ID": "5"}):
        done = submit({**environment, **kept, **gone, **of_job, **job}, config, *good,
                      "--partition", "low", "--set", f"run_dir={folder}/clean{len(job)}")
        passed = dict(line.split("=", 1) for line in
                      (folder / "sbatch.env").read_text().splitlines() if "=" in line)
        left = sorted(set(passed) & {*kept, *gone, *of_job, *job})
        expected = sorted(kept if job else [*kept, *of_job])
        check(done.returncode == 0 and left == expected,
              f"sbatch gets, {'within' if job else 'outside of'} a job: {left} {done.stderr}")

    script = submit({**environment, "SBATCH_CONSTRAINT": "zen4"}, config, *good, "--exclude", "n[3-4]",
                    "--dry-run").stdout
    check('#SBATCH --constraint="zen4"\n' in script and '#SBATCH --exclude="n[3-4]"\n' in script,
          "kinds of nodes stand in the script")


def chain_cut_short(folder, environment, config, good):
    (folder / "sbatch.log").unlink(missing_ok=True)
    run_dir = folder / "cut_short"
    words = [*good, "--chain", "6", "--set", f"run_dir={run_dir}"]
    done = submit({**environment, "ALLOWED": "3"}, config, *words)
    noted = [json.loads(line) for line in (run_dir / "ledger.jsonl").read_text().splitlines()]
    check(done.returncode == 2 and "job limit" in done.stderr
          and "3 of 6 jobs are in the queue" in done.stderr and "scancel 17 18 19" in done.stderr
          and [n["jobs"] for n in noted] == [["17", "18", "19"]],
          "a chain that is refused half-way: " + done.stderr.strip())


def known_to_train(folder, environment, config, good):
    """What train would find only in the job: settings that a run was not started with, a run that is
    finished."""
    log = folder / "sbatch.log"
    log.unlink(missing_ok=True)
    runs.run(config, folder / "run", 1, "--set", "train.steps=2", "--set", "train.validate_every=1", "--set",
             "train.validation_items=4")
    words = [*good, "--set", "train.steps=2"]
    done = submit(environment, config, *words, "--set", "train.seed=5")
    check(done.returncode == 2 and "train.seed: 5 now, 0 in the run" in done.stderr
          and "undo the change" in done.stderr, "a changed setting: " + done.stderr.strip())
    done = submit(environment, config, *words)
    check(done.returncode == 0 and f"already finished after 2 steps: {folder}/run/experts/best.safetensors" in
          done.stdout and "no job is needed" in done.stdout, "a finished run: " + done.stdout.strip())
    told = json.loads(submit(environment, config, *words, "--json").stdout)
    check(told["jobs"] == [] and told["already_finished"], f"the same for programs: {told}")
    done = submit(environment, config, *words, "--dry-run")
    check(done.returncode == 0 and done.stdout.startswith("#!/bin/bash") and "no job is needed" in done.stderr,
          "a dry run shows its script all the same")
    check(not log.exists(), "sbatch was called for none of them")
    shutil.copy(folder / "tasks/train.jsonl", folder / "tasks/test.jsonl")
    done = submit(environment, config, *good, "--set", "train.steps=3")
    check(done.returncode == 0 and log.exists(), "extended, it is handed in: " + done.stdout.strip())
    check("svfleet: " in done.stderr and "prompts stand in the train split and in the test split, first" in done.stderr,
          "items of two splits: " + done.stderr.strip())
    shutil.rmtree(folder / "run")


def refused_beside_another(folder, environment):
    """A job of which no rank began ends with 2, unless another job has the run: that is none of its
    business."""
    run_dir = folder / "anothers"
    run_dir.mkdir()
    ledger = run_dir / "ledger.jsonl"
    words = [runs.SVFLEET, "after-run", str(run_dir), "--job", "41", "--restarts", "0", "--code", "2"]
    owner = run_dir / "owner.json"
    owner.write_text(json.dumps({
        "format": "svfleet-owner", "version": 1, "host": "n2", "pid": 7, "process_start": 0,
        "token": "t", "job": "40", "restarts": 0, "started": "2026-01-02T03:04:05Z"}))
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    check(done.returncode == 2 and "the run belongs to job 40" in done.stdout
          and not ledger.exists(), "another job has the run: " + done.stdout.strip())
    owner.unlink()
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    check(done.returncode == 2 and "before the run began" in done.stdout
          and "job_end" in ledger.read_text(), "nobody has it: " + done.stdout.strip())


def main():
    folder = Path(tempfile.mkdtemp(prefix="svfleet-submit-", dir="/var/tmp"))
    try:
        environment = stand_ins(folder)
        config = slurm.own_copies(folder)
        model = folder / "model"
        good = ["--set", f"model.path={model}", "--nodes", "2"]
        empty = folder / "empty"
        empty.mkdir()
        lost = folder / "lost.yaml"
        lost.write_text(Path(config).read_text().replace("tasks/train.jsonl", "tasks/gone.jsonl"))
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
            (config, ["--constraint", "a'b"], "--constraint 'a'b' may hold"),
            (config, ["--exclude", "/etc/passwd"], "--exclude '/etc/passwd' may hold"),
            (config, ["--set", f"train.init_from={folder}/gone"], "train.init_from"),
            (config, ["--job-name", "a\nb"], "--job-name"),
            (config, ["--set", "task.prompt={quesiton}"], "train.jsonl:1: "),
            (config, ["--set", "task.max_new_tokens=5000"], "train.jsonl:1: the prompt has "),
            (config, ["--set", "svd.layers=0..40"], "svd.layers: '0..40' is outside this model's layers 0..1"),
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
        if told["jobs"] != ["17", "18", "19"] or len(calls) != 3:
            sys.exit(f"FAILED: a good submission: {done}, sbatch called {len(calls)} times")
        print(f"ok: {len(wrong)} wrong submissions refused, a good one handed in")
        for jobs, output in (("3", "jobs 17, 18, 19; their output: {}/slurm-%j.out"),
                             ("1", "job 17; its output: {}/slurm-17.out")):
            (folder / "sbatch.log").unlink()
            done = submit(environment, config, *good, "--chain", jobs, "--set", f"run_dir={folder}/told{jobs}")
            check(output.format(f"{folder}/told{jobs}") in done.stdout, "where the outputs are: " + done.stdout)

        # A child run: the job gets the parent and no configuration but the parent's.
        parent = folder / "parent"
        parent.mkdir()
        (parent / "run.json").write_text('{"run_id": "1"}')
        (parent / "config.yaml").write_text(Path(config).read_text())
        words = [*good, "--set", f"run_dir={folder}/child", "--dry-run"]
        fork = [runs.SVFLEET, "submit", "--fork", f"{parent}@2"]
        done = subprocess.run(fork + words, capture_output=True, text=True, env=environment)
        check(done.returncode == 2 and "has no checkpoint of step 2" in done.stderr,
              "a child of a step that was not saved is refused: " + done.stderr)
        (parent / "checkpoints").mkdir()
        (parent / "checkpoints" / "step-000002.h5").write_text("read where the job runs")
        done = subprocess.run(fork + words, capture_output=True, text=True, env=environment)
        line = f"arguments=('train' '--fork' '{parent}@2' '--set' 'model.path={model}' "
        if done.returncode != 0 or line not in done.stdout:
            sys.exit(f"FAILED: a child run: {done}")
        done = subprocess.run(fork + good, capture_output=True, text=True, env=environment)
        if done.returncode != 2 or "--set run_dir=" not in done.stderr:
            sys.exit(f"FAILED: a child run without a folder of its own: {done}")
        print("ok: a child run is handed on")

        out_of_sight(folder, environment, config, good)
        callers_environment(folder, environment, config, good)
        chain_cut_short(folder, environment, config, good)
        known_to_train(folder, environment, config, good)
        refused_beside_another(folder, environment)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
