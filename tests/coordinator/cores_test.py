#!/usr/bin/env python3
"""Every core: equal on 1 and 2 ranks, killed and resumed to the same hash, its experts read back by
evaluate and generate, and what does not go together refused in one line."""
import json
import shutil
import signal
import subprocess
import time

import runs
from runs import check

STEPS = 3
CORES = {
    "top 8 of SVF": ["svd.components=top 8"],
    "block": ["train.core=block", "svd.components=top 4"],
    "tiny": ["train.core=tiny", "svd.components=top 2", "train.core_numbers=5", "train.core_tied=3"],
    "bias": ["train.core=bias", "svd.targets=[down_proj]"],
    "lora": ["train.core=lora", "train.core_rank=2"],
    "ia3": ["train.core=ia3", "svd.targets=[k_proj, v_proj, down_proj]"],
}
REFUSED = {
    "train.core=tiny": "needs svd.components",
    "train.core=bias": "set svd.targets to [down_proj]",
    "train.core=ia3": "set svd.targets to [k_proj, v_proj, down_proj]",
    "train.core=lora svd.components=top_4": "svd.components must be",
    "train.core_rank=4": "no effect without train.core lora",
    "train.core_tied=4": "no effect without train.core tiny",
    "train.core=block train.parametrisation=sigmoid": "is of train.core diagonal",
}


def settings(overrides):
    return [word for one in overrides for word in ("--set", one)]


def killed_inside(config, run_dir, more):
    """Kills a run after a chunk or two of its second step; whether there was something to kill."""
    job = subprocess.Popen(runs.command(config, run_dir, 1, *more), stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    while job.poll() is None and not (runs.newest_step(run_dir) and runs.journal(run_dir)):
        time.sleep(0.002)
    if job.poll() is not None:
        return False
    job.send_signal(signal.SIGKILL)
    job.wait(timeout=60)
    return runs.newest_step(run_dir) < STEPS


def hashes_of(folder, config, name, more):
    one, two, killed = (folder / f"{kind}-{name.replace(' ', '-')}" for kind in ("one", "two", "killed"))
    runs.run(config, one, 1, *more)
    runs.run(config, two, 2, *more)
    check(killed_inside(config, killed, more), f"{name}: killed inside a run")
    runs.run(config, killed, 1, *more)
    return one, [runs.content_hash(run) for run in (one, two, killed)]


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, STEPS, 48)
        seen = set()
        for name, overrides in CORES.items():
            more = settings(overrides)
            run, hashes = hashes_of(folder, config, name, more)
            check(len(set(hashes)) == 1, f"{name}: 1 rank, 2 ranks, killed and resumed: {hashes[0]}")
            seen.add(hashes[0])
            merged = runs.log_steps(run)[STEPS - 1]["z_hash"]
            activation = folder / f"activation-{name.replace(' ', '-')}"
            runs.run(config, activation, 1, *more, "--set", "train.form=activation")
            check(runs.log_steps(activation)[STEPS - 1]["largest_z_move"] > 0, f"{name}: moves in both forms")
            expert = run / "experts/final.safetensors"
            # Whatever the settings say of the core, the file's own is used.
            done = runs.svfleet("evaluate", config, "--expert", expert, "--json",
                                "--set", "evaluate.items=8")
            check(done.returncode == 0, f"{name}: evaluated {done.stderr[-300:]}")
            measured = json.loads(done.stdout)["results"]
            check(len(measured) == 2, f"{name}: beside the base")
            check(merged, f"{name}: has a hash of its coefficients")
            done = runs.svfleet("generate", config, "--expert", expert, "--json", "2 7 5")
            check(done.returncode == 0, f"{name}: answers a prompt {done.stderr[-300:]}")
            if name == "top 8 of SVF":
                continue
            refused = runs.svfleet("rebase", config, "--expert", expert, "--store", folder / "store",
                                   folder / "other.safetensors")
            check(refused.returncode == 2 and "core" in runs.one_line(refused),
                  f"{name}: rebase says {runs.one_line(refused)}")
            for form in ("merged", "peft", "native"):
                wanted = 2 if form == "peft" and name in ("bias", "ia3") or form == "merged" and name == "bias" else 0
                done = runs.svfleet("export", config, "--expert", expert, "--format", form,
                                    folder / f"{form}-{name.replace(' ', '-')}")
                check(done.returncode == wanted and bool(runs.one_line(done)) == (wanted == 2),
                      f"{name} as {form}: {done.returncode} {runs.one_line(done)}")
        check(len(seen) == len(CORES), "the cores are different runs")
        store = folder / "none"
        runs.run(config, folder / "storeless", 1, *settings(CORES["lora"] + [f"svd.store={store}"]))
        check([file.name for file in store.iterdir() if file.suffix == ".h5"] == [],
              "a core that reads no factors makes none")
        done = runs.svfleet("verify", config, *settings(CORES["lora"] + [f"svd.store={store}",
                                                                        f"run_dir={folder / 'storeless'}"]))
        check(done.returncode == 0, f"and its run is verified {done.stdout[-300:]}{done.stderr[-300:]}")
        for overrides, says in REFUSED.items():
            done = runs.svfleet("train", config, *settings(overrides.split()))
            check(done.returncode == 2 and says in runs.one_line(done), f"{overrides}: {runs.one_line(done)}")
        experts = [folder / f"one-{name}/experts/final.safetensors" for name in ("lora", "bias")]
        done = runs.svfleet("generate", config, "--expert", experts[0], "--expert", experts[1], "2 7 5")
        check(done.returncode == 2 and "different cores" in runs.one_line(done),
              f"two cores at once: {runs.one_line(done)}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
