#!/usr/bin/env python3
"""Factor stores where a matrix has Q on its larger side, thin (version 2): all that reads a store reads it, and
what it gives is U diag(sigma z) V^T by LAPACK. A store of version 1 keeps the sides that it was begun with."""
import json
import shutil
import sys

import runs
from runs import check, one_line, svfleet

try:
    import numpy as np
except ImportError:
    print("skipped: needs numpy, which scripts/setup installs")
    sys.exit(77)
from experts_file import as_numbers, change_of, random_z, read_expert, read_folder, weights_of, write_expert

DATA = runs.SOURCE / "tests/data"
FAMILY = "gemma3_text"  # hidden 48, heads x head_dim 32, intermediate 48
LAYER = "model.layers.0."
Q, O, DOWN = LAYER + "self_attn.q_proj.weight", LAYER + "self_attn.o_proj.weight", LAYER + "mlp.down_proj.weight"
OTHER_SIDE = {Q: "right", O: "left", DOWN: "left"}  # of a square down_proj, left alone
SMALLER_SIDE = {Q: "left", O: "right", DOWN: "right"}


class Setting:
    def __init__(self, folder):
        self.folder, self.model = folder, folder / "model"
        shutil.copytree(DATA / "models/families" / FAMILY, self.model)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(DATA / "models/tiny_qwen2" / name, self.model)
        self.config = runs.write_config(folder, steps=2)
        self.weights = weights_of(self.model)

    def run(self, command, *more, store="store"):
        return svfleet(command, self.config, "--quiet", "--set", f"model.path={self.model}", "--set",
                       f"svd.store={self.folder / store}", "--set", "svd.layers=0", *more)

    def good(self, command, *more, store="store"):
        done = self.run(command, *more, "--json", store=store)
        if done.returncode:
            sys.exit(f"FAILED: {command} {more} ended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def train(self, run, store="store"):
        return self.good("train", "--set", "train.prompts_per_step=2", "--set", f"run_dir={self.folder / run}",
                         store=store)


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def form(store, name):
    """As the file's text says it."""
    data = (store / f"{name}.h5").read_bytes()
    found = [one for one in ("right", "left") if one.encode() in data]
    return found[0] if len(found) == 1 else found


def forms(store):
    return {name: form(store, name) for name in OTHER_SIDE}


def version(store):
    return json.loads((store / "store.json").read_text())["version"]


def is_read_by_all(setting):
    setting.good("decompose")
    store = setting.folder / "store"
    check(version(store) == 2 and forms(store) == OTHER_SIDE, "a new store has Q on the side that sharding needs")
    made = setting.train("run")
    again = setting.train("again")
    check(made["hash"] == again["hash"], f"two runs on it have one hash: {made['hash']}")
    checked = setting.good("verify", "--set", f"run_dir={setting.folder / 'run'}")
    check(checked["factors"]["damaged"] == 0 and checked["factors"]["read"] == 7, "verify reads its 7 factors")
    z = random_z(setting.weights, 1, names=[name for name in setting.weights if name.startswith(LAYER) and
                                            setting.weights[name].ndim == 2])
    expert = write_expert(setting.folder / "e.safetensors", z)
    for what in ("merged", "peft", "native"):
        setting.good("export", "--expert", expert, "--format", what, setting.folder / what)
    after = weights_of(setting.folder / "merged")
    changes = loras(setting.folder / "peft")
    for name, one in z.items():
        change = change_of(setting.weights[name], one)
        off = (relative(after[name] - setting.weights[name], change), relative(changes[name], change))
        other = relative(changes[name], change_of(setting.weights[name], 2 - one))
        if name in OTHER_SIDE:
            check(off[0] < 1e-4 and off[1] < 1e-6 and other > 1,
                  f"{name}: merged {off[0]:.1e}, peft {off[1]:.1e} off; control: mirrored z {other:.1f}")
        elif not (off[0] < 1e-4 and off[1] < 1e-6):
            check(False, f"{name}: merged {off[0]:.1e}, peft {off[1]:.1e} off")
    check((setting.folder / "native/expert.safetensors").read_bytes() == expert.read_bytes(), "native is the expert")
    return z


def loras(folder):
    tensors, changes = read_folder(folder), {}
    for name, a in tensors.items():
        if ".lora_A." in name:
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            changes[module + ".weight"] = as_numbers(*tensors[name.replace("lora_A", "lora_B")]) @ as_numbers(*a)
    return changes


def moves_and_adapts(setting):
    made = setting.folder / "run/experts/final.safetensors"
    z, metadata = read_expert(made)
    copy = setting.folder / "copy"
    shutil.copytree(setting.model, copy)
    moved = setting.folder / "moved.safetensors"
    setting.good("transfer", "--expert", made, moved, "--set", f"model.path={copy}", store="copy-store")
    there, _ = read_expert(moved)
    check(version(setting.folder / "copy-store") == 2 and all((there[name] == z[name]).all() for name in z),
          "transfer: z by name, onto a store of version 2")
    found = setting.good("evaluate", "--expert", made, "--set", "evaluate.items=4")
    check(len(found["results"]) == 2, "evaluate reads the expert")
    (setting.folder / "set.yaml").write_text(
        "experts:\n  - {file: run/experts/final.safetensors, label: one, about: one}\n"
        "  - {file: e.safetensors, label: two, about: two}\n")
    shots = setting.folder / "shots.jsonl"
    shots.write_text("".join((runs.SOURCE / "examples/tasks/max3/train.jsonl").open().readlines()[:3]))
    mixed = setting.folder / "mixed.safetensors"
    setting.good("adapt", "--experts", setting.folder / "set.yaml", "--strategy", "few_shot", "--shots", shots, "--out",
                 mixed, "--set", "evaluate.items=2", "--budget", "light")
    mixture, _ = read_expert(mixed)
    check(mixture.keys() == z.keys(), "adapt mixes experts of it")


def version_1_keeps_its_sides(setting):
    """store_v1 is of a program that knew no other: q_proj of this very model."""
    store = setting.folder / "old"
    shutil.copytree(DATA / "formats/store_v1", store)
    q = (store / f"{Q}.h5").read_bytes()
    setting.good("decompose", store="old")
    check((store / f"{Q}.h5").read_bytes() == q, "a factor of version 1 is used as it is")
    check(version(store) == 1 and forms(store) == SMALLER_SIDE, "and the store goes on as it was begun")
    before = setting.train("old-run", store="old")["hash"]
    content = runs.content_hash(store)
    (store / f"{O}.h5").unlink()
    runs.flip(store / f"{DOWN}.h5", 4000)
    after = setting.train("old-again", store="old")["hash"]
    check(before == after and runs.content_hash(store) == content,
          f"a factor that is lost or damaged is made again on its side: {after}")
    new = setting.train("new-run")["hash"]
    check(new != before, "control: on a store of version 2 the run has other bits")
    checked = setting.good("verify", "--set", f"run_dir={setting.folder / 'old-run'}", store="old")
    check(checked["factors"]["damaged"] == 0, "verify reads it")
    done = setting.run("train", "--set", "train.prompts_per_step=2", "--set", "train.steps=3", "--set",
                       f"run_dir={setting.folder / 'old-run'}")
    check(done.returncode == 2 and "store" in one_line(done), "control: its run does not go on with the other store")


def rebase_changes_sides(setting):
    made = setting.folder / "old-run/experts/final.safetensors"
    out = setting.folder / "rebased.safetensors"
    report = setting.good("rebase", "--expert", made, "--store", setting.folder / "store", out, store="old")
    z, back = read_expert(made)[0], read_expert(out)[0]
    worst = max(np.abs(back[name] - z[name]).max() for name in OTHER_SIDE)
    moved = min(np.abs(z[name] - 1).max() for name in OTHER_SIDE)
    check(report["error"] < 1e-5 and worst < 1e-6 < 1e-3 < moved,
          f"rebase to the other side: z to {worst:.1e}, which has moved by {moved:.1e}")
    setting.good("export", "--expert", out, "--format", "peft", setting.folder / "rebased-peft")
    changes = loras(setting.folder / "rebased-peft")
    off = max(relative(changes[name], change_of(setting.weights[name], z[name])) for name in OTHER_SIDE)
    check(off < 1e-3, f"and its change, by LAPACK, to {off:.1e}")


def main():
    folder = runs.work_folder()
    try:
        setting = Setting(folder)
        is_read_by_all(setting)
        moves_and_adapts(setting)
        version_1_keeps_its_sides(setting)
        rebase_changes_sides(setting)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
