#!/usr/bin/env python3
"""train.method: es. One hash on any number of ranks, for any chunks, and after kills in the middle of a
chunk, of which no recorded reply is sampled again; the score rises, and with random rewards it does
not."""
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import runs
from runs import check

ES = ["train.method=es", "train.form=activation", "train.population=16", "train.perturbation=0.1",
      "train.samples_per_prompt=2"]
STEPS = 3


def words(*pairs):
    return [word for pair in pairs for word in ("--set", pair)]


def train(config, run_dir, ranks, *pairs):
    shutil.rmtree(run_dir, ignore_errors=True)
    return runs.run(config, run_dir, ranks, *words(*ES, *pairs))


def cut_in_every_way(config, folder):
    hashes = {}
    for ranks, workers, members in ((1, 1, 2), (1, 2, 4), (1, 3, 16), (2, 1, 1), (2, 2, 8), (3, 1, 4)):
        train(config, folder / "run", ranks, f"workers={workers}", f"train.members_per_chunk={members}")
        hashes[ranks, workers, members] = runs.content_hash(folder / "run")
    check(len(set(hashes.values())) == 1, f"1, 2 and 3 ranks, chunks of 1 to 16 members, one hash: "
          f"{set(hashes.values())}")
    last = runs.log_steps(folder / "run")[STEPS]
    check(last["updates"] == STEPS and last["groups"] == 8, f"{last['updates']} updates from 8 pairs")
    told = last["population"]
    check(told["min"] <= told["mean"] <= told["max"] and 0 <= told["best"] < 16 and told["std"] > 0
          and told["pairs_apart"] + last["skipped_groups"] == 8, f"the log tells of the population: {told}")
    for other in ("train.seed=1", "train.perturbation=0.2", "train.population=14"):
        train(config, folder / "other", 1, other)
        check(runs.content_hash(folder / "other") not in hashes.values(), f"{other}: another hash")
    return hashes[1, 1, 2]


# One long chunk: 64 replies of 8 members, which end by chance at different lengths.
LONG = ["train.population=8", "train.members_per_chunk=8", "task.max_new_tokens=440", "workers=1",
        "train.steps=1"]
REPLIES = 8 * 8 * 2


def replies(run_dir):
    """The records of finished replies."""
    found = []
    for path in sorted((Path(run_dir) / "chunks").glob("step-*.journal")):
        try:
            records, data = runs.journal_file.records_of(path), path.read_bytes()
        except FileNotFoundError:  # the step has ended meanwhile
            continue
        found += [(record.chunk, data[record.payload:record.end]) for record in records
                  if record.kind == runs.journal_file.REPLY]
    return found


def restored(text):
    lines = [line for line in text.splitlines() if "of unfinished chunks restored" in line]
    return int(lines[-1].split(" finished")[0].split()[-1]) if lines else 0


def killed_in_a_chunk(config, folder, sign, truth, ranks_after, members_after):
    name = signal.Signals(sign).name
    run_dir = folder / f"{name}{ranks_after}"
    job = subprocess.Popen(runs.command(config, run_dir, 1, *words(*ES, *LONG)), stderr=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL)
    end = time.time() + 60
    while len(replies(run_dir)) < 9 and job.poll() is None and time.time() < end:
        time.sleep(0.002)
    job.send_signal(sign)
    job.wait(timeout=60)
    before = replies(run_dir)
    check(job.returncode == (75 if sign == signal.SIGTERM else -9), f"{name}: code {job.returncode}")
    check(9 <= len(before) < REPLIES and not runs.journal_file.chunks(run_dir),
          f"{name}: {len(before)} of {REPLIES} replies are in the journal, no chunk")
    # Whoever goes on may cut the population otherwise.
    second = subprocess.Popen(
        runs.command(config, run_dir, ranks_after, *words(*ES, *LONG, f"train.members_per_chunk={members_after}")),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seen = before
    while second.poll() is None and time.time() < end + 60 and runs.newest_step(run_dir) in (0, None):
        now = replies(run_dir)
        seen = now if len(now) > len(seen) else seen
        time.sleep(0.002)
    text = second.communicate(timeout=120)[1]
    check(second.returncode == 0, f"{name}: goes on on {ranks_after} ranks")
    check(restored(text) == len(before), f"{name}: {restored(text)} replies were restored")
    check(len(set(seen)) == len(seen) <= REPLIES and set(before) <= set(seen),
          f"{name}: {len(seen)} records in all, none twice")
    check(runs.content_hash(run_dir) == truth, f"{name}: the hash is that of an undisturbed run")


def killed_between_chunks(config, folder, truth):
    """Again and again, on other numbers of ranks: finished chunks are restored. They hold no vector."""
    run_dir, found, sizes, longest = folder / "killed", 0, [1, 2, 3], 0
    settings = words(*ES, "train.rollout_samples=0")
    for attempt in range(4):
        job = subprocess.Popen(runs.command(config, run_dir, sizes[attempt % 3], *settings),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        first, before = runs.newest_step(run_dir), len(runs.journal(run_dir))
        while job.poll() is None:
            if len(runs.journal(run_dir)) > (before if runs.newest_step(run_dir) == first else 0):
                break
            time.sleep(0.001)
        longest = max([longest, *(record.length for record in runs.journal(run_dir))])
        runs.send(signal.SIGKILL, runs.ranks_of(job.pid).values())
        found += "restored" in job.communicate(timeout=120)[1]
    done = runs.run(config, run_dir, 2, *settings)
    check(found + ("restored" in done.stderr) > 0, "finished chunks or replies were restored")
    check(0 < longest < 1000, f"the record of a chunk has {longest} bytes; a gradient would have 3,072")
    check(runs.content_hash(run_dir) == truth, "4 kills and resumes: the same hash")


def refuses(config, folder):
    for pairs, word in ((["train.population=7"], "even"), (["train.members_per_chunk=3"], "must divide"),
                        (["train.prompts_per_step=2", "train.prompts_per_chunk=1"], "at least 4"),
                        (["train.form=merged"], "train.form to activation"), (["train.kl_beta=0.1"], "kl_beta"),
                        (["train.method=policy_gradient"], "no effect without train.method es")):
        done = runs.svfleet("train", config, *words(f"run_dir={folder}/refused", *ES, *pairs))
        check(done.returncode == 2 and word in runs.one_line(done), f"{pairs[0]}: {runs.one_line(done)}")


def learns(config, folder):
    steps, vowels = 25, {}
    settings = ["train.population=32", f"train.steps={steps}", "train.learning_rate=0.03", "train.perturbation=0.2"]
    for name, more in (("vowels", []), ("random", ["task.rewards=[{kind: random}]"])):
        run_dir = folder / name
        train(config, run_dir, 1, *settings, *more)
        log = runs.log_steps(run_dir)
        said = [log[step + 1]["score"] for step in range(steps)]
        check(log[steps]["updates"] == steps, f"{name}: the mean score of the population goes from "
              f"{sum(said[:5]) / 5:.3f} to {sum(said[-5:]) / 5:.3f}")
        done = runs.svfleet("evaluate", config, *words(f"run_dir={run_dir}", "evaluate.split=validation",
                                                       "evaluate.temperature=1"),
                            "--expert", run_dir / "experts/final.safetensors", "--json")
        base, expert = json.loads(done.stdout)["results"]
        vowels[name] = expert["accuracy"] - base["accuracy"]
    # Control: what random rewards teach says nothing of vowels.
    check(vowels["vowels"] > 0.15 and vowels["random"] < 0.1, f"gains over the base: {vowels}")


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, STEPS, tokens=12)
        refuses(config, folder)
        truth = cut_in_every_way(config, folder)
        killed_between_chunks(config, folder, truth)
        train(config, folder / "undisturbed", 1, *LONG)
        truth = runs.content_hash(folder / "undisturbed")
        killed_in_a_chunk(config, folder, signal.SIGTERM, truth, 1, 2)
        killed_in_a_chunk(config, folder, signal.SIGKILL, truth, 2, 4)
        if "SVFLEET_QUICK" not in os.environ:
            learns(config, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
