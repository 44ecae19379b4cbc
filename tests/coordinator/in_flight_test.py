#!/usr/bin/env python3
"""Several chunks in flight in one worker: how many there are, whose they are, and a kill in the middle of
them alter no bit; what has ended is not said again; and nobody holds what another could do."""
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import runs
from runs import check

STEPS = 2
ROWS, PROMPTS, SAMPLES = (1, 4, 16, 256), (1, 2, 4, 8), 4


def settings(**values):
    return [word for key, value in values.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]


def train(config, run_dir, ranks, *more, **values):
    shutil.rmtree(run_dir, ignore_errors=True)
    runs.run(config, run_dir, ranks, *settings(**values), *more)
    return runs.content_hash(run_dir)


def in_flight(run_dir):
    return [step["chunks_in_flight"] for step in runs.log_steps(run_dir).values()]


def every_way(config, folder):
    """Sizes of chunks, workers, ranks and rows; a part of all, in which each pair of values occurs."""
    hashes, together = {}, 0
    for p, prompts in enumerate(PROMPTS):
        for r, rows in enumerate(ROWS):
            for workers in (1, 2, 3):
                for ranks in (1, 2, 3):
                    if (p + 2 * r + workers + ranks) % 4:
                        continue
                    way = prompts, rows, workers, ranks
                    hashes[way] = train(config, folder / "run", ranks, workers=workers,
                                        train__prompts_per_chunk=prompts, train__rows_per_worker=rows)
                    most = max(in_flight(folder / "run"))
                    together += most > 1
                    if rows <= prompts * SAMPLES:
                        check(most == 1, f"{way}: {most} in flight")
    check(len(set(hashes.values())) == 1, f"{len(hashes)} ways, one hash: {set(hashes.values())}")
    check(together >= 5, f"in {together} of them a worker had several chunks in flight")
    alone = train(config, folder / "run", 1, workers=1, train__rows_per_worker=1)
    check(alone in hashes.values() and in_flight(folder / "run") == [1] * STEPS, "one at a time: the same hash")
    full = train(config, folder / "run", 1, workers=1, train__rows_per_worker=256)
    check(full == alone and in_flight(folder / "run") == [8] * STEPS, "all eight at a time: the same hash")
    # Controls: other keys are another hash, and rows are no part of what a run is.
    other = train(config, folder / "other", 1, train__seed=1, train__rows_per_worker=256)
    check(other != alone, "another seed, another hash")
    runs.run(config, folder / "run", 2, *settings(train__rows_per_worker=3, train__steps=STEPS + 1))
    check(len(in_flight(folder / "run")) == STEPS + 1, "a run goes on with another number of rows")


def fair(config, folder):
    """Two workers and two chunks: one each, whoever comes first."""
    for ranks, workers in ((1, 2), (2, 1)):
        train(config, folder / "fair", ranks, workers=workers, train__prompts_per_step=2, train__rows_per_worker=256)
        check(in_flight(folder / "fair") == [1] * STEPS, f"{ranks} x {workers} workers, two chunks: one each")
    train(config, folder / "fair", 1, workers=1, train__prompts_per_step=2, train__rows_per_worker=256)
    check(in_flight(folder / "fair") == [2] * STEPS, "control: one worker has both")


def records(run_dir):
    """Of the step: its replies, as (position, bytes), and the numbers of its finished chunks."""
    replies, chunks = [], set()
    for path in sorted((Path(run_dir) / "chunks").glob("step-*.journal")):
        for record in runs.journal_file.records_of(path):
            if record.kind == runs.journal_file.REPLY:
                replies.append((record.chunk, path.read_bytes()[record.payload:record.end]))
            elif record.kind == runs.journal_file.CHUNK:
                chunks.add(record.chunk)
    return replies, chunks


LONG = dict(task__max_new_tokens=440, train__checkpoint_every=5, train__steps=1)


def killed(config, folder, truth, sign, ranks_after, rows_after):
    name = signal.Signals(sign).name
    run_dir = folder / f"{name}{ranks_after}"
    shutil.rmtree(run_dir, ignore_errors=True)
    job = subprocess.Popen(runs.command(config, run_dir, 1, *settings(workers=1, train__rows_per_worker=256, **LONG)),
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.time() + 60
    while len(records(run_dir)[0]) < 6 and job.poll() is None and time.time() < end:
        time.sleep(0.002)
    check(job.poll() is None, f"{name}: eight chunks are in flight")
    job.send_signal(sign)
    job.wait(timeout=60)
    check(job.returncode == (75 if sign == signal.SIGTERM else -9), f"{name}: code {job.returncode}")
    replies, chunks = records(run_dir)
    check(len(replies) < 32 and len(set(replies)) == len(replies), f"{name}: {len(replies)} replies had ended")
    check(len({position for position, _ in replies}) > 1, f"{name}: of several chunks")
    left = [position for position, _ in replies if position not in chunks]
    done = runs.run(config, run_dir, ranks_after, *settings(workers=1, train__rows_per_worker=rows_after, **LONG))
    lines = [line for line in done.stderr.splitlines() if "of unfinished chunks restored" in line]
    restored = int(lines[-1].split(" finished")[0].split()[-1]) if lines else 0
    check(restored == len(left), f"{name}: {restored} replies of unfinished chunks were restored on {ranks_after} "
          f"ranks, {len(chunks)} chunks were whole")
    check(runs.content_hash(run_dir) == truth, f"{name}: the hash is that of an undisturbed run")


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, STEPS, tokens=12)
        every_way(config, folder)
        fair(config, folder)
        truth = train(config, folder / "undisturbed", 1, workers=1, train__rows_per_worker=1, **LONG)
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for ranks, rows in ((1, 1), (2, 256)):
                killed(config, folder, truth, sign, ranks, rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
