"""The training runs of a chaos run: their configuration, what is on their disk, and whether two of
them are equal."""
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import journal_file
from chaos_bench import cluster
from chaos_bench.cluster import SOURCE, Broken, must

PROMPTS = 16  # of a step; one to a chunk
KEEP = 3

CONFIG = """\
model: {{path: {folder}/model, dtype: float32}}
run_dir: {run_dir}
svd: {{store: {store}, targets: [all]}}
task:
  name: vowels
  train: {folder}/train.jsonl
  rewards: [{{kind: regex, pattern: "[aeiou].*[aeiou]", match_only: true}}]
  max_new_tokens: 64
  truncated: score
train:
  seed: {seed}
  steps: {steps}
  prompts_per_step: {prompts}
  samples_per_prompt: 8
  prompts_per_chunk: 1
  learning_rate: 0.01
  checkpoint_every: 2
  keep_checkpoints: {keep}
timeout_s: {timeout_s}
"""

# What of a step's record depends on the prompts, their order, the replies and the sums alone.
COMPARED = ("position", "state_hash", "z_hash", "replies", "counted", "mean_tokens", "truncated")


def copy_model(folder):
    """And the questions: where all nodes see them."""
    shutil.copytree(SOURCE / "tests/data/models/tiny_llama3", folder / "model")
    shutil.copy(SOURCE / "examples/tasks/max3/train.jsonl", folder)


def write_config(folder, name, run_dir, store, seed, steps, timeout_s):
    path = folder / f"{name}.yaml"
    path.write_text(CONFIG.format(folder=folder, run_dir=run_dir, store=store,
                                  seed=seed, steps=steps, prompts=PROMPTS, keep=KEEP,
                                  timeout_s=timeout_s))
    return path


class Truth:
    """An undisturbed run: one process, no MPI, no Slurm."""

    def __init__(self, folder, seed, steps):
        self.seed = seed
        self.run_dir = folder / f"undisturbed-{seed}"
        config = write_config(folder, f"undisturbed-{seed}", self.run_dir, folder / "true_factors",
                              seed, steps, 600)
        start = time.time()
        done = subprocess.run([cluster.SVFLEET, "train", str(config), "--quiet"], capture_output=True,
                              text=True, timeout=900)
        if done.returncode:
            raise Broken(f"the undisturbed run ended with {done.returncode}: {done.stderr}")
        self.seconds = time.time() - start
        self.hash, self.expert, self.steps = end_of(self.run_dir)


def end_of(run_dir):
    """Hash of the run, of its expert, and the last record of each step."""
    steps = {}
    for line in (run_dir / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "step":
            steps[record["step"]] = record
    return (must(cluster.SVFLEET, "hash", run_dir).strip(),
            must(cluster.SVFLEET, "hash", run_dir / "experts/final.safetensors").strip(), steps)


def differences(steps, truth):
    """Where the step records are not those of the undisturbed run; one line each."""
    found = []
    for step in sorted(steps.keys() | truth.keys()):
        if step not in steps or step not in truth:
            found.append(f"step {step} is in one log only")
            continue
        found += [f"step {step}: {key} is {steps[step][key]}, undisturbed {truth[step][key]}"
                  for key in COMPARED if steps[step][key] != truth[step][key]]
    return found


def prompts_lost(steps):
    """(dropped, repeated): positions must advance by exactly the prompts of a step."""
    dropped = repeated = before = 0
    for _, record in sorted(steps.items()):
        gained = record["position"] - before
        dropped += max(0, gained - PROMPTS)
        repeated += max(0, PROMPTS - gained)
        before = record["position"]
    return dropped, repeated


# What is on the run's disk.

def step_in(path):
    return int(re.match(r"step-(\d+)", path.name).group(1))


def checkpoints(run_dir):
    return sorted((Path(run_dir) / "checkpoints").glob("step-*[0-9].h5"))


def saved_step(run_dir):
    return step_in(checkpoints(run_dir)[-1]) if checkpoints(run_dir) else 0


def chunks(run_dir):
    """Finished ones that no checkpoint holds yet, oldest first."""
    return journal_file.chunks(run_dir, saved_step(run_dir))


def where(run_dir):
    """(step, finished chunks of that step) as the disk shows it."""
    steps = [chunk.step for chunk in chunks(run_dir)]
    step = max(steps, default=saved_step(run_dir))
    return step, steps.count(step)


def finished_after(run_dir, moment):
    """When the last chunk of a rank or the first checkpoint after `moment` was finished, by the disk's own
    clock: soon after the moment, that is the first."""
    times = []  # of all chunks: after a damaged checkpoint older ones are computed again
    for path in checkpoints(run_dir) + list((Path(run_dir) / "chunks").glob("step-*.journal")):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:
            pass
    return min((t for t in times if t > moment), default=None)


def checkpoint_after(run_dir, moment):
    try:
        newest = checkpoints(run_dir)[-1:]
        return any(path.stat().st_mtime > moment for path in newest)
    except FileNotFoundError:
        return False
