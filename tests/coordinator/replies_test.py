#!/usr/bin/env python3
"""Killed in the middle of a chunk: what was said is not said again. A reply whose record is in the
journal is restored, by whatever rank gets its chunk, and the hash is that of a run that nothing
disturbed."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import runs
from runs import check

# One long chunk: 32 replies, which end by chance at different lengths.
LONG = ["--set", "train.prompts_per_chunk=8", "--set", "task.max_new_tokens=440", "--set", "workers=1",
        "--set", "train.checkpoint_every=5"]
STEPS, REPLIES = 1, 32


def replies(run_dir, step=0):
    """By owner: what the records of a step's replies say."""
    found = {}
    for path in sorted((Path(run_dir) / "chunks").glob("step-*.journal")):
        for record in runs.journal_file.records_of(path):
            if record.kind != runs.journal_file.REPLY or record.step != step:
                continue
            said = path.read_bytes()[record.payload:record.end]
            found.setdefault(path.name.rsplit("-", 1)[1], []).append((record.chunk, said))
    return found


def all_of(run_dir):
    return [reply for said in replies(run_dir).values() for reply in said]


def start(config, run_dir, ranks=1, *more):
    return subprocess.Popen(runs.command(config, run_dir, ranks, *LONG, *more), stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)


def wait_for(job, run_dir, count, deadline_s=60):
    end = time.time() + deadline_s
    while len(all_of(run_dir)) < count and job.poll() is None and time.time() < end:
        time.sleep(0.002)
    check(job.poll() is None, f"{len(all_of(run_dir))} replies of {REPLIES} have ended, the chunk has not")


def restored(text):
    words = [line for line in text.splitlines() if "of unfinished chunks restored" in line]
    return int(words[-1].split(" finished")[0].split()[-1]) if words else 0


def interrupted(config, folder, truth, sign, ranks_after):
    name = signal.Signals(sign).name
    run_dir = folder / f"{name}{ranks_after}"
    job = start(config, run_dir)
    wait_for(job, run_dir, 5)
    began = time.time()
    job.send_signal(sign)
    job.wait(timeout=60)
    took = time.time() - began
    before = all_of(run_dir)
    check(job.returncode == (75 if sign == signal.SIGTERM else -9), f"{name}: code {job.returncode}")
    check(5 <= len(before) < REPLIES, f"{name}: {len(before)} replies are in the journal, no chunk")
    check(not runs.journal_file.chunks(run_dir), f"{name}: no chunk was finished")
    if sign == signal.SIGTERM:
        check(took < 5, f"{name}: gone after {took:.2f} s, between tokens")
    # Another process, killed when it has all replies: what it sampled is beside what it found.
    second = start(config, run_dir, ranks_after)
    end = time.time() + 60
    while second.poll() is None and time.time() < end and runs.newest_step(run_dir) in (0, None):
        seen = all_of(run_dir)
        if len(seen) >= REPLIES:
            break
        time.sleep(0.001)
    said = replies(run_dir) if len(all_of(run_dir)) >= REPLIES else {}
    text = second.communicate(timeout=120)[1]
    check(second.returncode == 0, f"{name}: goes on on {ranks_after} ranks")
    check(restored(text) == len(before), f"{name}: {restored(text)} replies were restored")
    if said:  # seen before the checkpoint cleared them
        owners = list(said.values())
        check(sum(map(len, owners)) == REPLIES and len(set(sum(owners, []))) == REPLIES,
              f"{name}: the other {REPLIES - len(before)} were sampled, none again")
    check(runs.content_hash(run_dir) == truth["hash"], f"{name}: the hash is that of an undisturbed run")
    last = runs.log_steps(run_dir)[STEPS]
    check(last["log_prob_mismatch"]["max"] == 0, f"{name}: restored log-probs are the gradient's")


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, STEPS)
        undisturbed = folder / "undisturbed"
        runs.run(config, undisturbed, 1, *LONG)
        step = runs.log_steps(undisturbed)[STEPS]
        truth = {"hash": runs.content_hash(undisturbed), "chunk_s": step["longest_chunk_s"]}
        check(step["replies"] == REPLIES, f"{step['replies']} replies in a chunk of {truth['chunk_s']:.2f} s")
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for ranks in (1, 2):
                interrupted(config, folder, truth, sign, ranks)

        # Control: a record that is damaged is not used, nor one of another policy.
        run_dir = folder / "damaged"
        job = start(config, run_dir)
        wait_for(job, run_dir, 5)
        job.kill()
        job.wait()
        count = len(all_of(run_dir))
        path = next((run_dir / "chunks").glob("*.journal"))
        runs.flip(path, runs.journal_file.records_of(path)[2].payload + 60)
        done = runs.run(config, run_dir, 1, *LONG)
        check(restored(done.stderr) == count - 1 and "reply not used" in done.stderr, "a damaged one is named")
        check(runs.content_hash(run_dir) == truth["hash"], "and sampled again, to the same hash")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
