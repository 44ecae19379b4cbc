#!/usr/bin/env python3
"""Bits belong to the sequence: neither the size of chunks, nor workers, nor ranks alter the hash of a
run, and log pi is the same number when a token is drawn and when it is trained, in each type and form.
SVFLEET_MODEL, where it is there, in four corners."""
import os
import shutil
from pathlib import Path

import runs
from runs import check

STEPS = 5


def train(config, run_dir, ranks, *pairs):
    shutil.rmtree(run_dir, ignore_errors=True)
    runs.run(config, run_dir, ranks, *[word for pair in pairs for word in ("--set", pair)])
    return runs.content_hash(run_dir)


def sizes(config, folder, dtype):
    hashes = {}
    for ranks in (1, 2, 3):
        for workers in (1, 2, 3, 4):
            for prompts in (1, 2, 4, 8):
                if ranks > 1 and (workers + prompts) % 2:  # half of them: no two alike
                    continue
                hashes[ranks, workers, prompts] = train(
                    config, folder / "run", ranks, f"model.dtype={dtype}", f"workers={workers}",
                    f"train.prompts_per_chunk={prompts}")
    check(len(set(hashes.values())) == 1, f"{dtype}: {len(hashes)} ways to cut the work, one hash: "
          f"{set(hashes.values())}")
    other = train(config, folder / "run", 1, f"model.dtype={dtype}", "train.seed=1")
    check(other not in hashes.values(), f"{dtype}: another seed, another hash")


def one_number(config, folder):
    for dtype in ("bfloat16", "float32"):
        for form in ("merged", "activation"):
            run_dir = folder / "numbers"
            train(config, run_dir, 1, f"model.dtype={dtype}", f"train.form={form}", "train.steps=20",
                  "train.kl_beta=0.01")
            steps = runs.log_steps(run_dir)
            worst = max(step["log_prob_mismatch"]["max"] for step in steps.values())
            tokens = sum(step["replies"] * step["mean_tokens"] for step in steps.values())
            moved = steps[20]["largest_z_move"]
            check(worst == 0 and moved > 0.02, f"{dtype}, {form}: |log pi sampled - trained| is at most "
                  f"{worst} over {tokens:.0f} tokens, z moved by {moved:.3f}")
            first = steps[1]["kl"]
            check(all(first[k] == 0 for k in ("k1", "k2", "k3")), f"{dtype}, {form}: KL at z = 1 is {first}")
            check(steps[20]["kl"]["k3"] > 0, f"{dtype}, {form}: and later {steps[20]['kl']['k3']:.2g}")


def corners(folder):
    model = os.environ.get("SVFLEET_MODEL", runs.SOURCE / "models" / "SmolLM2-135M-Instruct")
    if not Path(model, "config.json").exists():
        print("no real model: run scripts/fetch_model", flush=True)
        return
    text = (runs.SOURCE / "examples/quickstart.yaml").read_text()
    config = folder / "corners.yaml"
    config.write_text(text.replace("task: examples", f"task: {runs.SOURCE}/examples"))
    hashes = set()
    for ranks, workers, prompts in ((1, 1, 1), (1, 2, 4), (2, 1, 2), (3, 1, 8)):
        hashes.add(train(str(config), folder / "corner", ranks, f"model.path={model}",
                         f"svd.store={folder}/store",
                         f"workers={workers}", f"train.prompts_per_chunk={prompts}", "train.steps=2",
                         "svd.layers=20..29", "task.max_new_tokens=8", "train.log_kl_every=0"))
        check(max(step["log_prob_mismatch"]["max"] for step in runs.log_steps(folder / "corner").values()) == 0,
              f"SmolLM2, {ranks} ranks, {workers} workers, chunks of {prompts}: 0 apart")
    check(len(hashes) == 1, f"SmolLM2: four corners, one hash: {hashes}")


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, STEPS, tokens=12)
        sizes(config, folder, "float32")
        sizes(config, folder, "bfloat16")
        one_number(config, folder)
        corners(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
