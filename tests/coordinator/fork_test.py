#!/usr/bin/env python3
"""Child runs: what they take over, what they may change, and that neither ranks nor kills alter
them; the parent is only read."""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import runs
from runs import check

STEPS = 5


def start(arguments, ranks=1):
    launcher = [] if ranks == 1 else runs.MPIRUN + ["-n", str(ranks)]
    return subprocess.run(launcher + [runs.SVFLEET, "train", *map(str, arguments), "--quiet"],
                          capture_output=True, text=True, timeout=300)


def fork(parent, child, *settings, config=None, ranks=1):
    words = [config] if config else []
    words += ["--fork", parent, "--set", f"run_dir={child}"]
    for setting in settings:
        words += ["--set", setting]
    done = start(words, ranks)
    check(done.returncode == 0, f"{Path(child).name}: ended with {done.returncode} {done.stderr}"
          if done.returncode else f"{Path(child).name}: finished")
    return done


def refused(what, arguments, parts, ranks=(1, 2)):
    for n in ranks:
        done = start(arguments, n)
        lines = [line for line in done.stderr.splitlines() if line.startswith("svfleet: ")]
        text = lines[0] if lines else done.stderr
        check(done.returncode == 2 and len(lines) == 1 and all(str(p) in text for p in parts),
              f"{what}, {n} ranks: {done.returncode}: {text}")


def expert(run_dir):
    return runs.content_hash(run_dir / "experts/final.safetensors")


def metadata(path):
    raw = path.read_bytes()
    return json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])["__metadata__"]


def checkpoint(run_dir, step):
    return run_dir / f"checkpoints/step-{step:06d}.h5"


def content(folder):
    return {path.relative_to(folder): (hashlib.sha256(path.read_bytes()).hexdigest(),
                                       path.stat().st_mtime_ns)
            for path in folder.rglob("*") if path.is_file()}


def events(run_dir):
    lines = (run_dir / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "event"]


def same_way(folder, parent, config):
    """Nothing changed: the child takes the parent's own way. A control: another step's state, or
    another learning rate, do not."""
    child = folder / "same"
    fork(f"{parent}@2", child)
    check(expert(child) == expert(parent), "forked at step 2, nothing changed: the parent's expert")
    check(runs.content_hash(child) != runs.content_hash(parent),
          "the state's hash is another: it names the parent")
    for step in range(3, STEPS + 1):
        mine, theirs = (runs.log_steps(run)[step] for run in (child, parent))
        check(mine["z_hash"] == theirs["z_hash"] and mine["updates"] == theirs["updates"] and
              mine["position"] == theirs["position"], f"step {step} is the parent's")
    check(sorted(runs.log_steps(child)) == [3, 4, 5], "the child has done steps 3 to 5")

    first = events(child)[0]
    run = json.loads((child / "run.json").read_text())
    parent_id = json.loads((parent / "run.json").read_text())["run_id"]
    at_2 = runs.content_hash(checkpoint(parent, 2))
    want = {"run_dir": os.path.realpath(parent), "run_id": parent_id, "step": 2, "state_hash": at_2}
    check(first["name"] == "fork" and first["parent"] == want and first["changed"] == [],
          "the log names the parent, and no changes")
    check(run["parent"] == want and run["changed"] == [] and run["run_id"] != parent_id,
          "and so does run.json")
    check(metadata(child / "experts/final.safetensors")["parent"] == f"{parent_id} step 2 {at_2}",
          "and the expert")
    check("parent" not in metadata(parent / "experts/final.safetensors"), "the parent has none")

    # The optimizer's moments are taken over too: from the same expert without them it goes
    # elsewhere.
    start_expert = folder / "at_2"
    runs.run(config, start_expert, 1, "--set", "train.steps=2")
    init = folder / "init"
    runs.run(config, init, 1, "--set", "train.steps=3", "--set",
             f"train.init_from={start_expert}/experts/final.safetensors")
    check(expert(init) not in {expert(parent), runs.log_steps(parent)[5]["z_hash"]},
          "control: from the expert of step 2 alone it is another expert")
    later = folder / "later"
    fork(f"{parent}@3", later)
    check(expert(later) == expert(parent) and
          runs.content_hash(later) != runs.content_hash(child), "from step 3: the same expert")


def changed(folder, parent, config):
    settings = ["train.learning_rate=0.03", "train.seed=7"]
    hashes = set()
    for ranks in (1, 2, 3):
        child = folder / f"changed{ranks}"
        fork(f"{parent}@2", child, *settings, ranks=ranks)
        hashes.add(runs.content_hash(child))
    check(len(hashes) == 1, f"on 1, 2 and 3 ranks the same child {hashes}")
    check(expert(child) != expert(parent), "another learning rate and seed: another expert")
    record = events(child)[0]
    check(len(record["changed"]) == 2 and
          any("train.learning_rate" in line and "0.03" in line and "0.01" in line
              for line in record["changed"]) and
          any("train.seed" in line for line in record["changed"]),
          f"the log names the changes: {record['changed']}")
    with_config = folder / "with_config"
    fork(f"{parent}@2", with_config, *settings, config=config, ranks=2)
    check({runs.content_hash(with_config)} == hashes, "with CONFIG in place of the parent's: equal")

    fewer = folder / "other_prompts"
    fork(f"{parent}@2", fewer, "train.prompts_per_step=4", "train.steps=6")
    positions = {n: r["position"] for n, r in runs.log_steps(fewer).items()}
    check(positions == {n: 4 * n for n in range(3, 7)}, f"other steps in the data: {positions}")
    return hashes


def killed(folder, parent, undisturbed):
    """The same words again and again, with SIGKILL in between, on changing ranks."""
    child, kills, seen = folder / "killed", 0, set()
    words = ["--fork", f"{parent}@2", "--set", f"run_dir={child}", "--set",
             "train.learning_rate=0.03", "--set", "train.seed=7", "--quiet"]
    for turn in range(12):
        ranks = (1, 2, 3)[turn % 3]
        launcher = [] if ranks == 1 else runs.MPIRUN + ["-n", str(ranks)]
        job = subprocess.Popen(launcher + [runs.SVFLEET, "train", *words],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = (runs.newest_step(child), len(runs.journal(child)))
        while job.poll() is None:  # a step, or from the third kill on a chunk, is some progress
            now = (runs.newest_step(child), len(runs.journal(child)))
            if now[0] is not None and (now[0] != before[0] or kills >= 2 and now != before):
                break
            time.sleep(0.002)
        pids = runs.ranks_of(job.pid)
        if job.poll() is None and pids:
            kills += 1
            seen.add(runs.newest_step(child))
            os.kill(pids[max(pids)], signal.SIGKILL)
        code = job.wait(timeout=60)
        runs.kill_all_below(job)
        if code == 0:
            break
    if code:
        fork(f"{parent}@2", child, "train.learning_rate=0.03", "train.seed=7")
    check(kills >= 3 and min(seen) == 2, f"the child was killed {kills} times, at steps {seen}")
    check({runs.content_hash(child)} == undisturbed, "and ends with the undisturbed child's hash")
    names = [event["name"] for event in events(child)]
    check(names[0] == "fork" and "resume" in names[1:], f"its events: {names}")


def again(folder, parent, config):
    """A finished child, the same words again; without --fork; and without the parent."""
    child = folder / "again"
    other_parent = folder / "moved"
    shutil.copytree(parent, other_parent)
    fork(f"{other_parent}@2", child, "train.learning_rate=0.03")
    before = runs.content_hash(child)
    done = fork(f"{other_parent}@2", child, "train.learning_rate=0.03")
    check("already finished" in done.stdout, "the same words again: already finished")
    done = fork(other_parent, child, "train.learning_rate=0.03")
    check("already finished" in done.stdout, "a child of any step of it will do without @STEP")
    longer = ["--set", "train.steps=6", "--set", "train.learning_rate=0.03"]
    done = start([config, "--set", f"run_dir={child}", *longer])
    check(done.returncode == 0 and runs.newest_step(child) == 6,
          f"without --fork it goes on like any run {done.stderr}")
    shutil.rmtree(other_parent)
    check(start([child / "effective.yaml", "--set", "train.steps=7"]).returncode == 0 and
          runs.newest_step(child) == 7, "also when the parent is gone, from its own configuration")
    fork(f"{other_parent}@2", child, "train.learning_rate=0.03", "train.steps=8")
    check(runs.newest_step(child) == 8, "and with the words that started it")
    refused("another parent that is gone", ["--fork", f"{folder}/nowhere@2", "--set",
            f"run_dir={child}", "--set", "train.learning_rate=0.03"], ["not the child of"], (1,))
    check(before != runs.content_hash(child), "it has moved")


def refusals(folder, parent, config):
    def words(*more, run="refused", at="@2"):
        return ["--fork", f"{parent}{at}", "--set", f"run_dir={folder / run}", *more]

    refused("no run_dir", ["--fork", parent], ["--set run_dir="])
    refused("the parent's own folder", ["--fork", parent, "--set", f"run_dir={parent}/"],
            ["the parent's own folder", "--set run_dir="])
    refused("the parent's folder in CONFIG", [config, "--fork", parent], ["the parent's own folder"])
    refused("no such parent", ["--fork", folder / "nowhere", "--set", f"run_dir={folder}/refused"],
            ["nowhere", "not a run folder"])
    refused("neither CONFIG nor --fork", [], ["CONFIG is required"])
    refused("a step that was pruned", words(at="@1"), ["no checkpoint of step 1", "steps 2, 3, 4, 5"])
    refused("nothing left to do", words(at=""), ["nothing is left to do", "train.steps"])
    check(not (folder / "refused").exists(), "what the parent's checkpoints tell is refused before a folder is made")
    refused("other matrices", words("--set", "svd.targets=[mlp]"), ["svd.targets or svd.layers"])
    refused("another parametrisation", words("--set", "train.parametrisation=sigmoid"),
            ["train.parametrisation", "sigmoid", "direct"])
    refused("another factor store", words("--set", "svd.storage=bfloat16", "--set",
                                          f"svd.store={folder}/other_store"),
            [f"the factor store '{folder}/other_store' is "])
    refused("init_from", words("--set",
                               f"train.init_from={parent}/experts/final.safetensors"),
            ["train.init_from", "for new runs"])
    model = folder / "model"
    shutil.copytree(runs.SOURCE / "tests/data/models/tiny_llama3", model)
    shard = sorted(model.glob("*.safetensors"))[0]
    data = bytearray(shard.read_bytes())
    data[-2] ^= 1
    shard.write_bytes(data)
    refused("another base model", words("--set", f"model.path={model}", "--set",
                                        f"svd.store={folder}/model_store"),
            [f"the base model in '{model}' is "])
    check(not (folder / "refused/checkpoints").exists(), "nothing was started by what was refused")
    refused("a run of something else", words(run="alone"),
            ["is a run of its own, not the child of"])
    refused("a child of another step", ["--fork", f"{parent}@3", "--set", f"run_dir={folder}/same"],
            ["is a child of run", "step 2", "not the child of", "at step 3"])
    refused("a changed setting without --fork", [folder / "same/effective.yaml", "--set",
                                                 "train.learning_rate=0.5"],
            ["train.learning_rate", "--fork RUN"])
    # What was refused left a folder without a checkpoint: it may still become a child.
    child = folder / "refused"
    fork(f"{parent}@2", child)
    check(expert(child) == expert(parent) and
          json.loads((child / "run.json").read_text())["parent"]["step"] == 2,
          "the folder of the refused ones can still become a child")
    check("targets: [all]" in (child / "effective.yaml").read_text().replace('"', ""),
          "with its own settings beside it")
    # Killed between its record and its first checkpoint, it must not start from nothing.
    shutil.rmtree(child / "checkpoints")
    shutil.rmtree(child / "chunks")
    shutil.rmtree(child / "experts")
    refused("a child that has not begun, without --fork", [child / "effective.yaml"],
            ["is a child of", "has not begun", f"--fork {os.path.realpath(parent)}@2"])
    fork(f"{parent}@2", child)
    check(expert(child) == expert(parent), "with --fork it begins")


def other_meanings(folder, config):
    """As many numbers, which would stand for something else."""
    def parent_of(name, *core):
        run = folder / name
        runs.run(config, run, 1, *(word for one in ("train.steps=1", *core) for word in ("--set", one)))
        return run

    def not_as(parent, setting, parts):
        refused(f"{parent.name} with {setting}", ["--fork", parent, "--set", f"run_dir={folder}/other_core", "--set",
                                                  "train.steps=2", "--set", setting], parts, (1,))

    top = parent_of("top", "svd.components=top 4")
    not_as(top, "svd.components=bottom 4", ["svd.components is bottom 4, not top 4"])
    lora = parent_of("lora", "train.core=lora", "train.core_rank=2")
    not_as(lora, "train.core_alpha=8", ["train.core_alpha is 8", "not 32"])
    not_as(lora, "train.core_rank=4", ["train.core_rank is 4, not 2"])
    tiny = parent_of("tiny", "train.core=tiny", "svd.components=top 2", "train.core_numbers=5", "train.core_tied=3")
    not_as(tiny, "train.seed=7", ["train.seed is 7, not 0"])
    not_as(tiny, "train.core_tied=4", ["train.core_tied is 4, not 3"])
    # The control: what does not name the numbers may change, a seed of LoRA's too, which drew its first A alone.
    fork(tiny, folder / "tiny_child", "train.steps=2", "train.learning_rate=0.03")
    fork(lora, folder / "lora_child", "train.steps=2", "train.seed=7")


def live(folder, parent, config):
    """A parent that is running is only read."""
    running = folder / "running"
    job = subprocess.Popen(runs.command(config, running, 1, "--set", "train.steps=200"),
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while (runs.newest_step(running) or 0) < 2 and job.poll() is None:
            time.sleep(0.01)
        child = folder / "of_running"
        fork(running, child, "train.steps=60")
        check(job.poll() is None, "the parent still runs")
        record = events(child)[0]["parent"]
        check(record["step"] >= 2, f"forked from a live run at step {record['step']}")
    finally:
        runs.kill_all_below(job)


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, STEPS)
        parent = folder / "run"  # as run.yaml says
        runs.run(config, parent, 2, "--set", "train.keep_checkpoints=4")
        check(runs.newest_step(parent) == STEPS and not checkpoint(parent, 1).exists(), "the parent")
        runs.run(config, folder / "alone", 1, "--set", "train.steps=1")
        before = content(parent)
        same_way(folder, parent, config)
        undisturbed = changed(folder, parent, config)
        killed(folder, parent, undisturbed)
        again(folder, parent, config)
        refusals(folder, parent, config)
        other_meanings(folder, config)
        live(folder, parent, config)
        check(content(parent) == before, "no byte of the parent's folder has changed")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
