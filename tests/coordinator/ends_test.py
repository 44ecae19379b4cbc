#!/usr/bin/env python3
"""How commands end: Ctrl-C in each of them says in one line what is kept, a closed ssh stops a run as
SIGTERM does unless nohup has switched it off, and svfleet status says what to do about a code."""
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import runs
from runs import check


def start(*arguments, **more):
    return subprocess.Popen([runs.SVFLEET, *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **more)


def wait_for(condition, job, what, seconds=120):
    end = time.time() + seconds
    while not condition():
        if job.poll() is not None:
            raise SystemExit(f"FAILED: it ended before {what}: {job.communicate()}")
        if time.time() > end:
            raise SystemExit(f"FAILED: {what} did not happen within {seconds} s")
        time.sleep(0.001)


def said(errors, what, most=1):
    lines = [line for line in errors.splitlines() if "kept" in line or "changed" in line
             or "handed in" in line]
    check(1 <= len(lines) <= most, f"{what} says in one line: {lines or errors}")
    return lines[0]


def interrupted(what, *arguments, before=lambda: None):
    """The line of a command that is interrupted; again while it is over before the signal."""
    for _ in range(30):
        before()
        job = start(*arguments)
        while job.poll() is None and not runs.stops_at_pieces(job.pid):
            time.sleep(0.0005)
        job.send_signal(signal.SIGINT)
        _, errors = job.communicate(timeout=120)
        if job.returncode != 0:
            check(job.returncode == 75, f"{what}, interrupted, ends with 75: {job.returncode} {errors}")
            line = said(errors, what)
            check(line.startswith("svfleet: stopped by SIGINT: "), "by name of the signal")
            return line
    raise SystemExit(f"FAILED: {what} was always over before it could be interrupted")


def commands(folder, config):
    store = folder / "store"
    line = interrupted("decompose", "decompose", config,
                       before=lambda: shutil.rmtree(store, ignore_errors=True))
    check(f"decomposed so far are kept in '{store}'; start again to go on" in line, "decompose: what")
    subprocess.run([runs.SVFLEET, "decompose", config], check=True, capture_output=True)
    line = interrupted("evaluate", "evaluate", config)
    check("no result is kept" in line, "evaluate: what")
    line = interrupted("verify", "verify", config)
    check("nothing was changed" in line, "verify: what")

    job = start("generate", config, *["abc"] * 200, "--max-new-tokens", "450")
    job.stdout.read(1)
    job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=60)
    check(job.returncode == -signal.SIGINT, f"generate ends at once: {job.returncode} {errors}")
    check("kept nowhere" in said(errors, "generate"), "generate: what")


def submit(folder, config):
    """Slurm's programs are stand-ins that never answer."""
    programs = folder / "programs"
    programs.mkdir()
    marker = folder / "asked"
    for name in ("sinfo", "scontrol", "squeue", "sbatch"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {marker}\nexec sleep 1000\n")
        (programs / name).chmod(0o755)
    job = start("submit", config, "--nodes", "1", "--time", "1:00:00", "--allow-local",
                start_new_session=True,
                env=dict(os.environ, PATH=f"{programs}:{os.environ['PATH']}"))
    wait_for(marker.exists, job, "a question to Slurm")
    os.killpg(job.pid, signal.SIGINT)
    _, errors = job.communicate(timeout=60)
    check(job.returncode == -signal.SIGINT, f"submit ends at once: {job.returncode} {errors}")
    check("no job was handed in" in said(errors, "submit"), "submit: what")


def training(folder, config):
    run_dir = folder / "run"

    def steps():
        return (run_dir / "log.jsonl").exists() and len(runs.log_steps(run_dir)) >= 2

    def begin(**more):
        shutil.rmtree(run_dir, ignore_errors=True)
        job = subprocess.Popen(runs.command(config, run_dir, 1), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, **more)
        wait_for(steps, job, "step 2")
        return job

    job = begin()
    job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=120)
    check(job.returncode == 75 and "finished chunks are kept" in said(errors, "train"), "train: what")

    job = begin()
    job.send_signal(signal.SIGSTOP)  # so that both are there when it goes on
    job.send_signal(signal.SIGINT)
    job.send_signal(signal.SIGCONT)
    time.sleep(0.01)
    job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=120)
    check(job.returncode in (-signal.SIGINT, 75), f"a second one ends it: {job.returncode}")
    said(errors, "train, interrupted twice,", most=2)  # the stop may have been told by then

    job = begin()
    job.send_signal(signal.SIGHUP)
    _, errors = job.communicate(timeout=120)
    report = json.loads((run_dir / "exit.json").read_text())
    check(job.returncode == 75 and report["reason"] == "stopped by SIGHUP",
          f"a closed ssh stops it: {job.returncode}, {report['reason']}")
    before = len(runs.log_steps(run_dir))
    job = begin(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    job.send_signal(signal.SIGHUP)
    wait_for(lambda: len(runs.log_steps(run_dir)) > before + 3, job, "three steps more")
    check(True, "under nohup it goes on")
    job.kill()
    job.communicate(timeout=60)


def advice(folder):
    run_dir = folder / "ended"
    run_dir.mkdir()
    (run_dir / "run.json").write_text("{}")
    for code, advised in ((2, "change what this names"), (70, "a bug: report it"), (74, "mend the disk"),
                          (75, "start it again to go on"), (76, "look into it before"),
                          (137, "start it again to go on")):
        (run_dir / "exit.json").write_text(json.dumps(
            {"reason": "what happened", "code": code, "job": "", "restarts": 0, "step": 3}))
        done = subprocess.run([runs.SVFLEET, "status", run_dir], capture_output=True, text=True)
        state = next(line for line in done.stdout.splitlines() if line.startswith("state"))
        check(done.returncode == 0 and f"code {code}: what happened; {advised}" in state, state)


def busy_slurm(folder):
    """A start in a job finds the run with another one, of which Slurm is at first too busy to tell: it
    waits, and takes the run when that job turns out to be over."""
    (folder / "busy").mkdir()
    config, run_dir = runs.write_config(folder / "busy", steps=2), folder / "busy" / "run"
    programs = folder / "busy" / "programs"
    programs.mkdir()
    asked = programs / "asked"
    (programs / "squeue").write_text(f"""#!/bin/sh
case "$*" in *'-j 8 '*) echo >> {asked}; [ $(wc -l < {asked}) -lt 4 ] || exit 0 ;; esac
echo 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2
exit 1
""")
    (programs / "squeue").chmod(0o755)
    run_dir.mkdir()
    (run_dir / "owner.json").write_text(json.dumps(
        {"format": "svfleet-owner", "version": 1, "host": "elsewhere", "pid": 5, "job": "8", "restarts": 0,
         "token": "0" * 32, "process_start": 7, "started": "2026-01-01T00:00:00Z"}))
    env = dict(os.environ, PATH=f"{programs}:{os.environ['PATH']}")
    command = runs.command(config, run_dir, 1)
    by_hand = subprocess.run(command, capture_output=True, text=True, env=env)
    check(by_hand.returncode == 2 and "in use" in by_hand.stderr, "a start by hand is refused at once")
    asked.unlink()
    job = subprocess.run(command, capture_output=True, text=True, env=dict(env, SLURM_JOB_ID="9"))
    check(job.returncode == 0 and "waiting up to 300 s for job 8" in job.stdout + job.stderr,
          f"one in a job waits, and goes on: {job.returncode} {job.stderr.strip()}")


def stopped_while_waiting(folder):
    """A start that waits for a job of which Slurm is too busy to tell ends at a signal."""
    folder = folder / "waits"
    folder.mkdir()
    config, run_dir = runs.write_config(folder, steps=2), folder / "run"
    programs = folder / "programs"
    programs.mkdir()
    (programs / "squeue").write_text(
        "#!/bin/sh\necho 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2\nexit 1\n")
    (programs / "squeue").chmod(0o755)
    run_dir.mkdir()
    (run_dir / "owner.json").write_text(json.dumps(
        {"format": "svfleet-owner", "version": 1, "host": "elsewhere", "pid": 5, "job": "8", "restarts": 0,
         "token": "0" * 32, "process_start": 7, "started": "2026-01-01T00:00:00Z"}))
    env = dict(os.environ, PATH=f"{programs}:{os.environ['PATH']}", SLURM_JOB_ID="9")
    output = folder / "output"
    with open(output, "w") as out:
        job = subprocess.Popen(runs.command(config, run_dir, 1), stdout=out, stderr=out, env=env)
    wait_for(lambda: "waiting up to 300 s for job 8" in output.read_text(), job, "the wait")
    job.send_signal(signal.SIGTERM)
    code = job.wait(timeout=60)
    check(code == 75 and "stopped by SIGTERM while waiting for the run folder" in output.read_text(),
          f"a start that waits ends at a signal: {code} {output.read_text()}")


def before_its_configuration(folder, config):
    """SIGUSR1, which a job script passes on, reaches a run that is still at its configuration."""
    slow, run_dir = folder / "slow.yaml", folder / "slow"
    os.mkfifo(slow)
    job = start("train", slow, "--set", f"run_dir={run_dir}", "--quiet")
    wait_for(lambda: runs.stops_at_pieces(job.pid), job, "a handler for SIGUSR1", 30)
    job.send_signal(signal.SIGUSR1)
    slow.write_text(Path(config).read_text())
    _, errors = job.communicate(timeout=120)
    report = json.loads((run_dir / "exit.json").read_text())
    check(job.returncode == 75 and report["reason"] == "stopped by SIGUSR1",
          f"a signal before the configuration is read: {job.returncode} {report['reason']} {errors}")


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, steps=2000)
        advice(folder)
        busy_slurm(folder)
        stopped_while_waiting(folder)
        before_its_configuration(folder, config)
        submit(folder, config)
        commands(folder, config)
        training(folder, config)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
