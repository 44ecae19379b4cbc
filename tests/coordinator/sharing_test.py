#!/usr/bin/env python3
"""What svfleet export, rebase and transfer write is what the mathematics say: weights, LoRA factors and
losses against LAPACK's SVD in float64 (numpy), with controls that must not fit."""
import json
import shutil
import sys
from pathlib import Path

import runs
from runs import check, one_line, svfleet

try:
    import numpy as np
except ImportError:
    print("skipped: needs numpy, which scripts/setup installs")
    sys.exit(77)
from experts_file import (change_of, linears, random_z, read_expert, read_folder, read_raw, weights_of, write_expert,
                          write_raw)

USER = 2
LLAMA3, PLAIN = "tiny_llama3", "tiny_llama_plain"  # float32 in two files; bfloat16


def model_folder(name):
    return runs.SOURCE / "tests/data/models" / name


class Setting:
    """A configuration of a tiny model, with its experts."""

    def __init__(self, folder, model, dtype):
        self.folder, self.model = folder / model, model_folder(model)
        self.folder.mkdir()
        self.config = runs.write_config(self.folder, model=model)
        self.dtype = dtype
        self.weights = weights_of(self.model)

    def run(self, command, *more):
        return svfleet(command, self.config, "--quiet", "--set", f"model.dtype={self.dtype}", *more)

    def good(self, command, *more):
        done = self.run(command, *more, "--json")
        if done.returncode:
            sys.exit(f"FAILED: {command} {more} ended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def expert(self, name, z, **metadata):
        return write_expert(self.folder / f"{name}.safetensors", z, **metadata)


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def others_of(z):
    """Controls: z that are not this one."""
    random = np.random.default_rng(5)
    return {"mirrored": {name: 2 - one for name, one in z.items()},
            "shuffled": {name: random.permutation(one) for name, one in z.items()},
            "base": {name: np.ones_like(one) for name, one in z.items()}}


def gain(before, after, weights, z):
    """<W' - W, change> / |change|^2 over all matrices: 1 where the change has arrived."""
    along = wanted = 0
    for name, one in z.items():
        change = change_of(weights[name], one)
        along += ((after[name] - before[name]) * change).sum()
        wanted += (change * change).sum()
    return along / max(wanted, 1e-300)


def merged_float32(setting):
    z = random_z(setting.weights, 1)
    out = setting.folder / "merged"
    report = setting.good("export", "--expert", setting.expert("e", z), "--format", "merged", out)
    after = weights_of(out)
    worst = max(relative(after[name], setting.weights[name] + change_of(setting.weights[name], one))
                for name, one in z.items())
    check(worst < 2e-6 and report["matrices"] == len(z) == 14,
          f"float32: each W' is U diag(sigma z) V^T to {worst:.1e}")
    for name, other in others_of(z).items():
        off = max(relative(after[key], setting.weights[key] + change_of(setting.weights[key], one))
                  for key, one in other.items())
        check(off > 0.05, f"control: {name} z is {off:.2f} away")
    before, now = read_folder(setting.model), read_folder(out)
    kept = [name for name in before if name not in z]
    check(list(before) == list(now) and all(before[name] == now[name] for name in kept),
          f"all {len(kept)} other tensors are byte for byte the base's, in the same places")
    for file in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                 "model.safetensors.index.json"):
        check((out / file).read_bytes() == (setting.model / file).read_bytes(), f"{file} is copied")
    check(sorted(path.name for path in out.glob("*.safetensors")) ==
          sorted(path.name for path in setting.model.glob("*.safetensors")), "and sharded as the base is")
    card = (out / "README.md").read_text()
    check(report["z_hash"] in card and report["model_hash"] in card and "library_name: transformers" in card,
          "its card names the expert and the base")
    check(str(setting.folder) not in card, "and no path of this machine")


def merged_bfloat16(setting):
    for size, bound in ((0.1, 0.02), (2e-3, 0.1)):
        z = random_z(setting.weights, 2, size)
        out = setting.folder / f"merged-{size}"
        setting.good("export", "--expert", setting.expert(f"e-{size}", z), "--format", "merged", out)
        after = weights_of(out)
        worst = 0
        for name, one in z.items():
            change = change_of(setting.weights[name], one)
            exact = setting.weights[name] + change
            # Its type's step there, and what bfloat16 Q and core cost of the change.
            step = np.exp2(np.floor(np.log2(np.abs(exact) + 1e-30)) - 7) + 0.03 * change.std()
            worst = max(worst, (np.abs(after[name] - exact) / step).max())
        arrived = gain(setting.weights, after, setting.weights, z)
        check(worst < 1.5, f"bfloat16, moves of {size}: no entry is more than {worst:.2f} steps of its type away")
        check(abs(arrived - 1) < bound, f"bfloat16, moves of {size}: {arrived:.3f} of the change has arrived")
        if size > 0.01:
            continue
        nearest = {name: round_to_bf16(setting.weights[name] + change_of(setting.weights[name], one))
                   for name, one in z.items()}
        lost = gain(setting.weights, nearest, setting.weights, z)
        check(lost < 0.9, f"control: rounded to the nearest it would be {lost:.3f}")
    z = random_z(setting.weights, 2, names=["model.layers.1.mlp.up_proj.weight"])
    setting.good("export", "--expert", setting.expert("one", z), "--format", "merged", setting.folder / "one")
    before, after = read_folder(setting.model), read_folder(setting.folder / "one")
    check([name for name in before if before[name] != after[name]] == list(z), "one adapted matrix alone changes")
    done = setting.run("export", "--expert", setting.folder / "one.safetensors", "--format", "merged",
                       "--set", "model.dtype=float32", setting.folder / "wide")
    config = json.loads((setting.folder / "wide/config.json").read_text())
    check(done.returncode == 0 and "config.json" in done.stderr and
          read_folder(setting.folder / "wide")[list(z)[0]][0] == "F32" and config["dtype"] == "float32",
          "with model.dtype float32 the matrix is float32, config.json says so, and a line tells it")


def one_indexed_file(setting):
    """A model whose one file only its index leads to."""
    model, out = setting.folder / "indexed", setting.folder / "indexed-merged"
    shutil.copytree(setting.model, model)
    name = "model-00001-of-00001.safetensors"
    (model / "model.safetensors").rename(model / name)
    (model / "model.safetensors.index.json").write_text(json.dumps(
        {"metadata": {}, "weight_map": {one: name for one in read_folder(setting.model)}}))
    setting.good("export", "--expert", setting.expert("indexed-expert", random_z(setting.weights, 2)), "--format", "merged", out,
                 "--set", f"model.path={model}")
    found = setting.good("evaluate", "--set", f"model.path={out}", "--set", "evaluate.items=2")
    check(found["results"][0]["n"] == 2, "a model of one indexed file is exported so that it can be read")


def round_to_bf16(values):
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def lora(out):
    """{weight name: B A}, ranks, and the configuration."""
    config = json.loads((out / "adapter_config.json").read_text())
    tensors = {name: one for name, one in read_folder(out).items()}
    changes, ranks = {}, {}
    for name in tensors:
        if ".lora_A." not in name:
            continue
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        a = np.frombuffer(tensors[name][2], np.float32).reshape(tensors[name][1]).astype(np.float64)
        dtype, shape, data = tensors[name.replace("lora_A", "lora_B")]
        b = np.frombuffer(data, np.float32).reshape(shape).astype(np.float64)
        rank = config["rank_pattern"].get(module.split(".", 1)[1], config["r"])
        alpha = config["alpha_pattern"].get(module.split(".", 1)[1], config["lora_alpha"])
        if not a.shape[0] == b.shape[1] == rank == alpha or module not in config["target_modules"]:
            check(False, f"{module}: factors of rank {a.shape[0]}, and rank {rank}, alpha {alpha} in the configuration")
        changes[module + ".weight"], ranks[module] = b @ a, rank
    return changes, ranks, config


def peft(setting):
    z = random_z(setting.weights, 3)
    out = setting.folder / "lora"
    report = setting.good("export", "--expert", setting.expert("l", z), "--format", "peft", out)
    changes, _, config = lora(out)
    worst = max(relative(changes[name], change_of(setting.weights[name], one)) for name, one in z.items())
    check(worst < 1e-5 and report["error"] == 0 and config["r"] == config["lora_alpha"] == 64,
          f"a LoRA of rank 64 is the expert to {worst:.1e}")
    for name, other in others_of(z).items():
        off = min(np.linalg.norm(changes[key] - change_of(setting.weights[key], one)) /
                  np.linalg.norm(changes[key]) for key, one in other.items())
        check(off > 0.3, f"control: the {name} expert is {off:.2f} away")

    few = random_z(setting.weights, 4, moved=5)
    key = linears(setting.weights)[0]
    few[key][:] = 1  # does not move at all
    few[linears(setting.weights)[1]] = random_z(setting.weights, 5, moved=9)[linears(setting.weights)[1]]
    setting.good("export", "--expert", setting.expert("few", few), "--format", "peft", setting.folder / "few")
    changes, ranks, config = lora(setting.folder / "few")
    worst = max(relative(changes[name], change_of(setting.weights[name], few[name])) for name in changes)
    check(worst < 1e-5 and sorted(set(ranks.values())) == [5, 9] and key not in changes and
          len(changes) == len(few) - 1, f"where few move, ranks are their numbers, and the factors exact ({worst:.1e})")

    cut = setting.folder / "cut"
    report = setting.good("export", "--expert", setting.folder / "l.safetensors", "--format", "peft", "--max-rank", 8,
                          cut)
    changes, ranks, _ = lora(cut)
    lost = all_of = best = 0
    for name, one in z.items():
        change = change_of(setting.weights[name], one)
        lost += np.linalg.norm(changes[name] - change) ** 2
        all_of += np.linalg.norm(change) ** 2
        best += (np.linalg.svd(change, compute_uv=False)[8:] ** 2).sum()
    lost, best = (lost / all_of) ** 0.5, (best / all_of) ** 0.5
    check(set(ranks.values()) == {8} and report["truncated"] == len(z) and abs(report["error"] - lost) < 1e-5 and
          abs(lost - best) < 1e-5 and lost > 0.3,
          f"cut to rank 8 it says that {report['error']:.4f} is lost; measured {lost:.4f}, least possible {best:.4f}")
    kind = report["by_kind"]["down_proj"]
    check(kind["matrices"] == 2 and 0.2 < kind["error"] < 0.9, "and so for each kind")
    text = setting.run("export", "--expert", setting.folder / "l.safetensors", "--format", "peft", "--max-rank", 8,
                       setting.folder / "cut-text").stdout
    check("down_proj" in text and f"{report['error']:.3g}" in text, "as a table too")
    ones = {name: np.ones_like(one) for name, one in z.items()}
    done = setting.run("export", "--expert", setting.expert("ones", ones), "--format", "peft", setting.folder / "no")
    check(done.returncode == USER and "changes nothing" in one_line(done) and not (setting.folder / "no").exists(),
          "an expert that changes nothing is refused")


def native(setting):
    z = random_z(setting.weights, 6)
    expert = setting.expert("n", z, task="vowels", step="12")
    out = setting.folder / "native"
    report = setting.good("export", "--expert", expert, "--format", "native", "--base-model", "someone/tiny", out)
    wanted = runs.content_hash(expert)
    check(report["z_hash"] == wanted == runs.content_hash(out) == runs.content_hash(out / "expert.safetensors"),
          "native: folder and file have the expert's hash")
    check((out / "expert.safetensors").read_bytes() == expert.read_bytes(), "and its bytes")
    card = (out / "README.md").read_text()
    check(all(text in card for text in ("someone/tiny", wanted, report["model_hash"], "vowels", "| step | `12` |")),
          "the card says what it belongs to and how it was trained")
    other = setting.expert("n2", random_z(setting.weights, 7, 0.7))
    answers = {}
    for name, path in (("file", expert), ("folder", out), ("other", other)):
        found = setting.good("generate", "--expert", path, "--max-new-tokens", 24, "Name three colours.")
        answers[name] = found["results"][1]["reply"]
    check(answers["file"] == answers["folder"], "given to --expert, folder and file answer alike")
    check(answers["other"] != answers["file"], "control: another expert answers otherwise")


def refusals(setting):
    expert = setting.folder / "n.safetensors"
    taken = setting.folder / "taken"
    taken.mkdir()
    (taken / "mine").write_text("mine")
    before = sorted(path.name for path in setting.folder.iterdir())
    done = setting.run("export", "--expert", expert, "--format", "peft", taken)
    check(done.returncode == USER and "not empty" in one_line(done), "a folder with files is refused")
    done = setting.run("export", "--expert", expert, "--format", "gguf", setting.folder / "x")
    check(done.returncode == USER and "merged, peft, native" in one_line(done), "an unknown format is refused")
    for command in (["rebase", "--store", setting.folder / "store"], ["transfer"]):
        done = setting.run(*command, "--expert", expert, taken / "mine")
        check(done.returncode == USER and "already" in one_line(done), f"{command[0]}: a file that is there is kept")
    done = setting.run("rebase", "--expert", expert, "--store", setting.folder / "nowhere", setting.folder / "x")
    check(done.returncode == USER and "no factor store" in one_line(done), "a store that is not there is named")
    check(sorted(path.name for path in setting.folder.iterdir()) == before and (taken / "mine").read_text() == "mine",
          "and nothing was left behind or changed")


def rebase(setting):
    z = random_z(setting.weights, 8)
    other = setting.folder / "bf16-store"
    setting.good("decompose", "--set", f"svd.store={other}", "--set", "svd.storage=bfloat16",
                 "--set", "svd.tolerance=0.1")
    out = setting.folder / "rebased.safetensors"
    made = setting.good("train", "--set", "train.steps=1", "--set", f"run_dir={setting.folder}/run")["expert"]
    same = setting.good("rebase", "--expert", made, "--store", setting.folder / "store", setting.folder / "same")
    z, metadata = read_expert(made)
    back, _ = read_expert(setting.folder / "same")
    worst = max(np.abs(back[name] - one).max() for name, one in z.items())
    check(same["error"] < 1e-6 and worst < 1e-6, f"on the same store z stays, to {worst:.1e}")
    report = setting.good("rebase", "--expert", made, "--store", other, out, "--set", "svd.tolerance=0.1")
    _, new = read_expert(out)
    check(1e-4 < report["error"] < 0.05, f"on a store in bfloat16 {report['error']:.1e} of the change is lost")
    check(new["rebased_from_store"] == metadata["store_hash"] != new["store_hash"] == report["store_hash"] and
          new["rebased_from"] == metadata["z_hash"] and float(new["rebase_error"]) > 0 and
          new["run_id"] == metadata["run_id"], "and the metadata say so")
    theirs = ["--set", f"svd.store={other}", "--set", "svd.storage=bfloat16", "--set", "svd.tolerance=0.1"]
    setting.good("export", "--expert", out, "--format", "peft", setting.folder / "rebased-lora", *theirs)
    changes, _, _ = lora(setting.folder / "rebased-lora")
    wanted = {name: change_of(setting.weights[name], one) for name, one in z.items()}
    measured = (sum(np.linalg.norm(changes[name] - one) ** 2 for name, one in wanted.items()) /
                sum(np.linalg.norm(one) ** 2 for one in wanted.values())) ** 0.5
    check(measured < 2 * report["error"] + 1e-3, f"measured by its LoRA there: {measured:.1e}")
    done = setting.run("export", "--expert", made, "--format", "peft", setting.folder / "x", *theirs)
    check(done.returncode == USER and "factor store" in one_line(done), "control: the old one is refused there")
    done = setting.run("export", "--expert", out, "--format", "peft", setting.folder / "x")
    check(done.returncode == USER and "factor store" in one_line(done), "and the new one here")


def perturbed(folder, model):
    """A copy of a model with noise in its weights."""
    shutil.copytree(model, folder)
    random = np.random.default_rng(9)
    for path in folder.glob("*.safetensors"):
        metadata, tensors = read_raw(path)
        for name, (dtype, shape, data) in tensors.items():
            values = np.frombuffer(data, np.float32)
            noise = 0.01 * values.std() * random.standard_normal(values.size)
            tensors[name] = dtype, shape, (values + noise).astype(np.float32).tobytes()
        write_raw(path, tensors, metadata)
    return folder


def transfer(setting):
    copy = perturbed(setting.folder / "copy", setting.model)
    there = ["--set", f"model.path={copy}", "--set", f"svd.store={setting.folder}/copy-store"]
    made = setting.folder / "run/experts/final.safetensors"
    z, metadata = read_expert(made)
    done = setting.run("export", "--expert", made, "--format", "peft", setting.folder / "x", *there)
    check(done.returncode == USER and "trained on base model" in one_line(done), "control: as it is, it is refused")
    found = {}
    for control in ("", "shuffled", "reversed"):
        out = setting.folder / f"moved-{control}"
        report = setting.good("transfer", "--expert", made, out, *there, *(["--control", control] if control else []))
        found[control], new = read_expert(out)
        check(new["transferred_from_model"] == metadata["model_hash"] != new["model_hash"] == report["model_hash"] and
              new["transferred_from"] == metadata["z_hash"] and new.get("control", "") == control,
              f"transfer{' ' if control else ''}{control}: the metadata say from where")
    setting.good("export", "--expert", out, "--format", "native", setting.folder / "native-moved", *there)
    names = list(z)
    check(all((found[""][name] == z[name]).all() for name in names), "z by name, in the order of sigma")
    check(all((found["reversed"][name] == z[name][::-1]).all() for name in names), "reversed is back to front")
    check(all((np.sort(found["shuffled"][name]) == np.sort(z[name])).all() and
              (found["shuffled"][name] != z[name]).any() for name in names), "shuffled has the same z elsewhere")
    qwen = write_expert(setting.folder / "qwen", random_z(weights_of(model_folder("tiny_qwen2")), 1))
    done = setting.run("transfer", "--expert", qwen, setting.folder / "x")
    check(done.returncode == USER and "'model.layers.2." in one_line(done) and "4 more" in one_line(done),
          "an expert of three layers is refused on two, with names")
    mistral = write_expert(setting.folder / "mistral", random_z(weights_of(model_folder("tiny_mistral")), 1))
    done = setting.run("transfer", "--expert", mistral, setting.folder / "x")
    check(done.returncode == USER and "k_proj.weight' with 48 scales" in one_line(done),
          "one of other sizes likewise")


def main():
    folder = runs.work_folder()
    try:
        float32, bfloat16 = Setting(folder, LLAMA3, "float32"), Setting(folder, PLAIN, "bfloat16")
        merged_float32(float32)
        merged_bfloat16(bfloat16)
        one_indexed_file(bfloat16)
        peft(float32)
        native(float32)
        refusals(float32)
        rebase(float32)
        transfer(float32)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
