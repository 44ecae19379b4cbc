#!/usr/bin/env python3
"""Every way to train: each setting runs on one rank, and killed on two and resumed on one, to the
same hash, and differs from the default run where it should."""
import json
import os
import shutil
import signal
import subprocess
import time

import runs
from runs import check

SETTINGS = {
    "default": [],
    "activation form": ["train.form=activation"],
    "groups cut": ["train.gradient_tokens=40"],
    "larger chunks": ["train.prompts_per_chunk=2"],
    "KL in the reward": ["train.kl_beta=0.1"],
    "KL as k2 loss": ["train.kl_beta=0.1", "train.kl_form=k2"],
    "KL over the vocabulary": ["train.kl_beta=0.1", "train.kl_form=full"],
    "sigmoid": ["train.parametrisation=sigmoid"],
    "whitened, clipped, cosine": ["train.baseline=whitened", "train.clip_norm=0.5",
                                  "train.schedule=cosine", "train.warmup_steps=1"],
    "group mean, mean over tokens": ["train.baseline=group_mean", "train.token_reduction=mean",
                                     "train.token_reduction_length=10"],
    "cut replies masked": ["task.truncated=mask"],
    "checkpoint every 2 steps": ["train.checkpoint_every=2"],
    "validation": ["train.validate_every=1", "train.validation_items=12"],
    "bfloat16": ["model.dtype=bfloat16"],
}
# The expert does not depend on when checkpoints are made, on validation, or on the size of chunks.
SAME_EXPERT = {"checkpoint every 2 steps": "default", "validation": "default",
               "larger chunks": "default"}
STEPS = 3


def killed_and_resumed(config, run_dir, settings):
    job = subprocess.Popen(runs.command(config, run_dir, 2, *settings), stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    deadline = time.time() + 60
    while job.poll() is None and time.time() < deadline:
        if any(chunk.step == 1 for chunk in runs.journal_file.chunks(run_dir)):
            break
        time.sleep(0.002)
    pids = runs.ranks_of(job.pid)
    if job.poll() is None and pids:
        os.kill(pids[max(pids)], signal.SIGKILL)
    job.wait(timeout=60)
    done = runs.run(config, run_dir, 1, *settings)
    return "resuming" in done.stderr


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, STEPS, tokens=12)
        hashes, resumed = {}, 0
        for number, (name, pairs) in enumerate(SETTINGS.items()):
            settings = [x for pair in pairs for x in ("--set", pair)]
            alone, killed = folder / f"alone{number}", folder / f"killed{number}"
            runs.run(config, alone, 1, *settings)
            resumed += killed_and_resumed(config, killed, settings)
            hashes[name] = runs.content_hash(alone)
            check(runs.content_hash(killed) == hashes[name], f"{name}: {hashes[name]}")
        check(resumed >= len(SETTINGS) // 2, f"{resumed} of {len(SETTINGS)} runs were resumed")
        experts = {name: runs.content_hash(folder / f"alone{number}/experts/final.safetensors")
                   for number, name in enumerate(SETTINGS)}
        for name, other in SAME_EXPERT.items():
            check(experts[name] == experts[other], f"{name}: the expert of '{other}'")
        others = {name: experts[name] for name in SETTINGS if name not in SAME_EXPERT}
        check(len(set(others.values())) == len(others), "every other setting gives another expert")
        check((folder / f"alone{list(SETTINGS).index('validation')}/experts/best.safetensors")
              .exists(), "validation keeps the best expert")

        start = folder / "from_expert"
        expert = folder / "alone0/experts/final.safetensors"
        runs.run(config, start, 1, "--set", f"train.init_from={expert}", "--set", "train.seed=5")
        events = [json.loads(line) for line in (start / "log.jsonl").read_text().splitlines()]
        first = next(e for e in events if e["kind"] == "step")
        check(first["largest_z_move"] > 0.015, "init_from starts at the expert: z is already "
              f"{first['largest_z_move']:.3f} from 1 after one step")

        stop = folder / "early"
        runs.run(config, stop, 1, "--set", "train.validate_every=1", "--set",
                 "train.validation_items=4", "--set", "train.early_stop_after=1", "--set",
                 "train.learning_rate=1e-9", "--set", "train.steps=50")
        check(runs.newest_step(stop) < 50, f"early stopping ended at step {runs.newest_step(stop)}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
