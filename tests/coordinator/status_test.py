#!/usr/bin/env python3
"""svfleet status tells where a run is and where its time went, while it runs and after a kill;
svfleet stop ends it at a step; a rank that is slow is named and not killed."""
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import runs
from runs import check

STEPS = 30


def svfleet(*arguments):
    return subprocess.run([runs.SVFLEET, *map(str, arguments)], capture_output=True, text=True,
                          timeout=60)


def status(run_dir):
    done = svfleet("status", run_dir, "--json")
    if done.returncode:
        raise SystemExit("FAILED: status: " + done.stderr)
    text = svfleet("status", run_dir)
    if text.returncode or not text.stdout.startswith("run "):
        raise SystemExit("FAILED: status: " + text.stdout + text.stderr)
    return json.loads(done.stdout)


def start(config, run_dir, ranks, *more):
    return subprocess.Popen(runs.command(config, run_dir, ranks, *more), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def wait_for(condition, what, seconds=60):
    end = time.time() + seconds
    while not condition():
        if time.time() > end:
            raise SystemExit(f"FAILED: {what} did not happen within {seconds} s")
        time.sleep(0.02)


def adds_up(now, seconds, what):
    total = sum(now["seconds"].values())
    check(abs(total - now["total_s"]) < 0.01 and min(now["seconds"].values()) > -0.001,
          f"{what}: the parts add up to {total:.2f} s")
    check(-0.1 < seconds - total < 4, f"{what}: {total:.1f} s are accounted for, "
          f"{seconds:.1f} s passed by the clock outside, launching included")


def refused(what, *arguments):
    done = svfleet(*arguments)
    lines = done.stderr.strip().splitlines()
    check(done.returncode == 2 and len(lines) == 1 and lines[0].startswith("svfleet: "),
          f"{what} is refused: {done.stderr.strip()}")


def requeued(run_dir):
    """Slurm itself has killed the job's processes and put it back into the queue: nobody need start it."""
    file = run_dir / "owner.json"
    text = file.read_text()
    sign = (run_dir / "alive.json").read_text()
    (run_dir / "alive.json").write_text(json.dumps(dict(json.loads(sign), time=time.time() - 100)))
    programs = run_dir.parent / "programs"
    programs.mkdir()
    for host in (json.loads(text)["host"], "another"):
        file.write_text(json.dumps(dict(json.loads(text), job="17", host=host)))
        for slurm, state in (("PENDING (BeginTime)", "waiting in the queue: Slurm says PENDING (BeginTime)"),
                             ("PENDING (launch failed requeued held)", "waiting in the queue: Slurm says PENDING "
                              "(launch failed requeued held); Slurm will not start it before 'scontrol release 17'"),
                             ("RUNNING (None)", "killed" if host != "another" else "silent for")):
            (programs / "squeue").write_text(f"#!/bin/sh\necho '{slurm}'\n")
            (programs / "squeue").chmod(0o755)
            shown = subprocess.run([runs.SVFLEET, "status", run_dir], capture_output=True, text=True,
                                   env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}).stdout
            line = shown.splitlines()[1]
            check(line.split(maxsplit=1)[1].startswith(state), f"Slurm says {slurm}, on {host}: {line}")
    file.write_text(text)
    (run_dir / "alive.json").write_text(sign)


def killed_and_resumed(folder, config, expected):
    run_dir = folder / "killed"
    more = ["--set", "train.checkpoint_every=12"]
    began = time.time()
    job = start(config, run_dir, 2, *more)
    wait_for(lambda: (runs.newest_step(run_dir) or 0) >= 12, "step 12")
    now = status(run_dir)
    check(now["live"] and now["state"].startswith("running on ") and not now["finished"],
          "while it runs: " + now["state"])
    check(now["attempts"][-1]["ranks"] == 2 and now["attempts"][-1]["first_chunk_s"] > 0,
          f"the first chunk was handed out {now['attempts'][-1]['first_chunk_s']} s after the start")
    wait_for(lambda: len(runs.log_steps(run_dir)) >= 14, "step 14")
    runs.kill_all_below(job)
    lived = time.time() - began
    time.sleep(0.5)
    now = status(run_dir)
    check(now["state"] == "killed" and not now["live"], "after kill -9: " + now["state"])
    kept = runs.journal_file.chunks(run_dir, runs.newest_step(run_dir))
    check(now["kept_chunks"] == len(kept) > 0 and f"{len(kept)} finished chunk" in svfleet("status", run_dir).stdout,
          f"{len(kept)} chunks are kept since the checkpoint, and shown")
    requeued(run_dir)
    adds_up(now, lived, "killed")
    done_steps = len(runs.log_steps(run_dir))
    check(done_steps > runs.newest_step(run_dir),
          f"{done_steps} steps were finished, {runs.newest_step(run_dir)} saved")

    began = time.time()
    runs.run(config, run_dir, 1, *more)
    lived += time.time() - began
    now = status(run_dir)
    check(runs.content_hash(run_dir) == expected, "resumed: the undisturbed hash")
    check(now["finished"] and now["state"] == "finished", "then: " + now["state"])
    adds_up(now, lived, "finished")
    check(now["seconds"]["lost"] > 0, f"lost and redone: {now['seconds']['lost']:.2f} s")
    check([a["reason"] for a in now["attempts"]] == ["left no word: killed", "finished"],
          "both starts are told with how they ended")
    check(0 < now["goodput"] < 1, f"goodput {now['goodput']:.3f}")
    check([s["step"] for s in now["last_steps"]] == list(range(STEPS - 4, STEPS + 1)),
          "the last five steps are shown")

    # A finished run that is started again stays as it is.
    before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file() and p.name != "svfleet.log"}
    runs.run(config, run_dir, 1, *more)
    after = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file() and p.name != "svfleet.log"}
    changed = [p.name for p in set(before) | set(after) if before.get(p) != after.get(p)]
    check(changed == [], f"started again, nothing changes in its folder: {changed}")
    refused("stop of a finished run", "stop", run_dir)

    # A run from before there was a ledger.
    for name in ("ledger.jsonl", "alive.json"):
        (run_dir / name).unlink()
    now = status(run_dir)
    check(now["finished"] and now["total_s"] == 0 and len(now["last_steps"]) == 5,
          "without ledger and signs of life the rest is shown")


def stopped_on_request(folder, config, expected):
    run_dir = folder / "stopped"
    more = ["--set", "train.checkpoint_every=100"]
    job = start(config, run_dir, 2, *more)
    wait_for(lambda: run_dir.exists() and len(runs.log_steps(run_dir)) >= 3
             if (run_dir / "log.jsonl").exists() else False, "step 3")
    done = svfleet("stop", run_dir)
    check(done.returncode == 0, "stop: " + done.stdout.strip())
    out, err = job.communicate(timeout=60)
    at = runs.newest_step(run_dir)
    check(job.returncode == 0 and "stopped after step" in out, f"it ends with 0: {out.strip()}")
    check(3 <= at < STEPS and len(runs.log_steps(run_dir)) == at,
          f"at a step, with a checkpoint of it, though one was due only after 100: step {at}")
    check(not (run_dir / "experts/final.safetensors").exists(), "and no final expert")
    now = status(run_dir)
    check("svfleet stop" in now["state"], "status says: " + now["state"])
    refused("stop of a run that is not running", "stop", run_dir)

    # The job script takes it as the end.
    done = subprocess.run([runs.SVFLEET, "after-run", str(run_dir), "--job", "", "--restarts", "0"],
                          capture_output=True, text=True)
    check(done.returncode == 0, "after-run ends the job: " + (done.stdout + done.stderr).strip())

    job = start(config, run_dir, 1, *more)
    wait_for(lambda: len(runs.log_steps(run_dir)) > at, "one more step")
    svfleet("stop", run_dir)
    check(svfleet("stop", run_dir, "--take-back").returncode == 0, "a stop can be taken back")
    job.communicate(timeout=60)
    if not (run_dir / "experts/final.safetensors").exists():  # the step ended in between
        runs.run(config, run_dir, 2, *more)
    check(runs.content_hash(run_dir) == expected, "gone on with: the undisturbed hash")


def slow_rank(folder, config):
    run_dir = folder / "slow"
    job = start(config, run_dir, 3, "--set", "train.steps=40")
    wait_for(lambda: (runs.newest_step(run_dir) or 0) >= 2, "step 2")
    pids = runs.ranks_of(job.pid)

    def named():
        return [line for line in (run_dir / "svfleet.log").read_text().splitlines()
                if "rank 1 (host " in line and "is slow" in line]

    for moment in range(15):  # in one of these it holds a chunk
        if job.poll() is not None or (moment >= 5 and named()):
            break
        os.kill(pids[1], signal.SIGSTOP)
        time.sleep(2)  # also a step in which it has two or three chunks then has a mean of over 0.5 s
        os.kill(pids[1], signal.SIGCONT)
        time.sleep(0.1)
    _, err = job.communicate(timeout=60)
    log = (run_dir / "svfleet.log").read_text()
    check(job.returncode == 0, "a rank that stands still for moments is not killed")
    check(len(named()) >= 1, "and it is named: " + (named() or ["-"])[0])
    others = [line for line in log.splitlines() if "is slow" in line and "rank 1 " not in line]
    check(others == [], f"the others are not: {others}")


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, STEPS, tokens=200)
        run_dir = folder / "alone"
        runs.run(config, run_dir, 1)
        expected = runs.content_hash(run_dir)
        killed_and_resumed(folder, config, expected)
        stopped_on_request(folder, config, expected)
        slow_rank(folder, config)
        refused("status of nothing", "status", folder / "nowhere")
        refused("status of a folder that is no run", "status", folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
