#!/usr/bin/env python3
"""Exported experts in the programs of others: a merged folder in transformers, a LoRA in peft, a native
expert through scripts/peft_svf, each against svfleet's own logits, with other experts as controls.

Needs transformers and peft: .bench-venv, which `scripts/bench --install` makes, or the Python of
SVFLEET_PEFT_PYTHON. Without them it is skipped."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import runs
from runs import check, svfleet

NEEDED = "h5py, numpy, peft, safetensors, torch, transformers, xxhash"


def with_peft():
    """Goes on in a Python that has what is needed; ends as skipped where none has."""
    if os.environ.get("SVFLEET_IN_PEFT"):
        return
    given = os.environ.get("SVFLEET_PEFT_PYTHON")
    why = "there is no .bench-venv"
    for python in [given] if given else [runs.SOURCE / ".bench-venv/bin/python", sys.executable]:
        if not Path(python).exists():
            continue
        look = f"import importlib.util as u; print(*[n for n in {NEEDED!r}.split(', ') if not u.find_spec(n)])"
        missing = subprocess.run([python, "-c", look], capture_output=True, text=True, check=True).stdout.split()
        if not missing:
            os.execve(python, [str(python), __file__], {**os.environ, "SVFLEET_IN_PEFT": "1", "OMP_NUM_THREADS": "1"})
        why = f"{python} has no {', '.join(missing)}"
    print(f"skipped: {why}; scripts/bench --install makes .bench-venv with {NEEDED}")
    sys.exit(77)


with_peft()
import numpy as np  # noqa: E402
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from experts_file import random_z, read_expert, read_folder, weights_of, write_expert  # noqa: E402

sys.path.insert(0, str(runs.SOURCE / "scripts/peft_svf"))
from peft_svf import ExpertError, load_expert  # noqa: E402

LOGITS = os.environ.get("SVFLEET_LOGITS", str(Path(runs.SVFLEET).parent / "tests/sharing_logits"))
TOKENS = [3, 141, 59, 265, 35, 89, 79, 32, 38, 46, 264, 33, 83, 279, 50, 288]


class Setting:
    def __init__(self, folder, model, dtype):
        self.folder, self.model, self.dtype = folder / model, runs.SOURCE / "tests/data/models" / model, dtype
        self.folder.mkdir(parents=True)
        self.config, self.store = runs.write_config(self.folder, model=self.with_tokenizer()), self.folder / "store"
        self.weights = weights_of(self.model)
        self.seen = {}  # logits
        self.good("decompose")

    def with_tokenizer(self):
        """Folders of families have none: that of another tiny model, which has as many tokens."""
        if not (self.model / "tokenizer.json").exists():
            copy = self.folder / "model"
            shutil.copytree(self.model, copy)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(runs.SOURCE / "tests/data/models/tiny_qwen2" / name, copy)
            self.model = copy
        return self.model

    def good(self, command, *more):
        done = svfleet(command, self.config, "--quiet", "--set", f"model.dtype={self.dtype}", *more)
        if done.returncode:
            sys.exit(f"FAILED: {command} ended with {done.returncode}: {done.stderr}")
        return done

    def expert(self, name, z):
        return write_expert(self.folder / f"{name}.safetensors", z)

    def export(self, expert, form, *more):
        out = self.folder / f"{expert.stem}-{form}"
        if not out.exists():
            self.good("export", "--expert", expert, "--format", form, *more, out)
        return out

    def ours(self, expert=None, form="merged", model=None, dtype=None):
        """svfleet's logits."""
        command = [LOGITS, model or self.model, dtype or self.dtype, ",".join(map(str, TOKENS))]
        command = tuple(map(str, command + ([self.store, expert, form] if expert else [])))
        if command not in self.seen:
            found = subprocess.run(command, capture_output=True, text=True, check=True)
            self.seen[command] = np.array(json.loads(found.stdout))
        return self.seen[command]

    def controls(self, name, z, dtype="float32"):
        """svfleet's logits of experts that are not this one."""
        random = np.random.default_rng(11)
        others = {"mirrored": {key: 2 - one for key, one in z.items()},
                  "shuffled": {key: random.permutation(one) for key, one in z.items()},
                  "another": random_z(self.weights, 99)}
        found = {other: self.ours(self.expert(f"{name}-{other}", of), dtype=dtype) for other, of in others.items()}
        return {"base": self.ours(dtype=dtype), **found}

    def theirs(self, folder=None, dtype=torch.float32):
        return transformers.AutoModelForCausalLM.from_pretrained(folder or self.model, dtype=dtype,
                                                                 attn_implementation="eager").eval()


def logits_of(model):
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0].double().numpy()


def gap(a, b):
    """The largest difference, as a share of the largest logit."""
    return np.abs(a - b).max() / np.abs(b).max()


def merged(setting):
    z = random_z(setting.weights, 21)
    expert = setting.expert("m", z)
    out = setting.export(expert, "merged")
    theirs = logits_of(setting.theirs(out))
    ours = setting.ours(model=out, dtype="float32")
    off = gap(theirs, ours)
    check(off < 2e-4, f"merged folder: transformers and svfleet agree on its weights to {off:.1e}")

    def same(dtype):
        return (setting.ours(model=out, dtype=dtype) == setting.ours(expert, "merged", dtype=dtype)).all()

    check(same("bfloat16"), "in svfleet itself the folder gives the expert's logits bit for bit")
    check(not same("float32"), "control: merged in float32, not into bfloat16, they are others")
    for name, other in setting.controls("m", z).items():
        off = gap(theirs, other)
        check(off > 0.02, f"control: {name} is {off:.2f} away")
    off = gap(theirs, setting.ours(expert, "merged", dtype="float32"))
    check(off < 0.02, f"against the expert merged in float32 it is {off:.1e} away, by rounding to bfloat16")


def lora(setting):
    z = random_z(setting.weights, 23)
    expert = setting.expert("l", z)
    ours = setting.ours(expert, "merged")
    model = peft.PeftModel.from_pretrained(setting.theirs(), setting.export(expert, "peft"))
    theirs = logits_of(model)
    off = gap(theirs, ours)
    check(off < 1e-4, f"64 components as a LoRA in peft: svfleet's logits to {off:.1e}")
    off = gap(theirs, setting.ours(expert, "activation"))
    check(off < 1e-4, f"and those of the activation form to {off:.1e}")
    for name, other in setting.controls("l", z).items():
        off = gap(theirs, other)
        check(off > 0.01, f"control: {name} is {off:.2f} away")
    few = setting.expert("few", {name: one for seed in (25, 26) for name, one in
                                 random_z(setting.weights, seed, moved=seed - 21,
                                          names=sorted(z)[seed - 25::2]).items()})
    off = gap(logits_of(peft.PeftModel.from_pretrained(setting.theirs(), setting.export(few, "peft"))),
              setting.ours(few, "merged"))
    check(off < 1e-4, f"with ranks of their own for some matrices: to {off:.1e}")
    cut = setting.folder / "l-cut"
    setting.good("export", "--expert", expert, "--format", "peft", "--max-rank", 4, cut)
    off = gap(logits_of(peft.PeftModel.from_pretrained(setting.theirs(), cut)), ours)
    check(off > 1e-3, f"control: cut to rank 4 it is {off:.2f} away")
    with model.disable_adapter():
        off = gap(logits_of(model), setting.ours())
    check(off < 2e-4, "switched off, it is the base")


def other_cores(setting):
    """Experts that are a LoRA by themselves, trained here until they are far from the base."""
    for core, more in (("lora", ("train.core_rank=4",)), ("block", ("svd.components=top 6",))):
        made = {}
        for seed in (1, 2):
            run_dir = setting.folder / f"{core}-{seed}"
            settings = ["train.steps=3", "train.learning_rate=0.2", f"train.core={core}", f"train.seed={seed}", *more]
            setting.good("train", *(word for one in [*settings, f"run_dir={run_dir}"] for word in ("--set", one)))
            made[seed] = run_dir / "experts/final.safetensors"
        out = setting.folder / f"{core}-peft"
        setting.good("export", "--expert", made[1], "--format", "peft", out)
        theirs = logits_of(peft.PeftModel.from_pretrained(setting.theirs(), out))
        for form in ("merged", "activation"):
            off = gap(theirs, setting.ours(made[1], form))
            check(off < 1e-4, f"core {core} as a LoRA in peft: svfleet's logits, {form}, to {off:.1e}")
        for name, other in (("base", setting.ours()), ("another", setting.ours(made[2]))):
            off = gap(theirs, other)
            check(off > 0.01, f"control: {name} is {off:.2f} away")


def with_biases(setting):
    expert = setting.expert("q", random_z(setting.weights, 30))
    ours = setting.ours(expert, "merged")
    off = gap(logits_of(peft.PeftModel.from_pretrained(setting.theirs(), setting.export(expert, "peft"))), ours)
    check(off < 1e-4, f"biases and tied embeddings, in peft: to {off:.1e}")
    for form in ("merged", "activation"):
        model = setting.theirs()
        load_expert(model, expert, setting.store, form)
        off = gap(logits_of(model), ours)
        check(off < 1e-4, f"and by peft_svf, {form}: to {off:.1e}")
    off = gap(setting.ours(), ours)
    check(off > 0.01, f"control: base is {off:.2f} away")


def of_family(setting, fused):
    """z by the names of the matrices, which in the folder are slices of others, or called otherwise."""
    decoder = {name.replace("language_model.model.", "model."): one for name, one in setting.weights.items()
               if "vision" not in name and ".layers." in name and one.ndim == 2}
    matrices = {}
    for name, one in decoder.items():
        for whole, slices in fused.items():
            if f".{whole}." in name:
                first = 0
                for kind, rows in slices.items():
                    matrices[name.replace(whole, kind)] = one[first:first + rows]
                    first += rows
                break
        else:
            matrices[name] = one
    setting.weights = matrices  # of controls
    z = random_z(matrices, 31)
    expert = setting.expert("f", z)
    ours = setting.ours(expert, "merged")
    model = peft.PeftModel.from_pretrained(setting.theirs(), setting.export(expert, "peft"))
    off = gap(logits_of(model), ours)
    check(off < 1e-4, f"{setting.folder.name}, {type(model.get_base_model()).__name__} in peft: to {off:.1e}")
    for name, other in setting.controls("f", z).items():
        off = gap(logits_of(model), other)
        check(off > 0.01, f"control: {name} is {off:.2f} away")


def package(setting):
    z = random_z(setting.weights, 27)
    expert = setting.expert("p", z)
    native = setting.export(expert, "native")
    ours = setting.ours(expert, "merged")
    model = setting.theirs()
    base = logits_of(model)
    for form in ("merged", "activation"):
        handle = load_expert(model, native, setting.store, form)
        theirs = logits_of(model)
        off = gap(theirs, ours)
        check(off < 1e-4, f"peft_svf, {form}: svfleet's logits to {off:.1e}")
        for name, other in setting.controls("p", z).items():
            off = gap(theirs, other)
            check(off > 0.01, f"control: {name} is {off:.2f} away")
        handle.remove()
        check((logits_of(model) == base).all(), "removed, it is the base bit for bit")
    wrapped = peft.get_peft_model(setting.theirs(), peft.LoraConfig(target_modules=["up_proj"], r=2))
    with load_expert(wrapped, native, setting.store):
        off = gap(logits_of(wrapped), ours)
    check(off < 1e-4, f"in a model that peft has wrapped: to {off:.1e}")
    made = setting.folder / "run/experts/final.safetensors"
    setting.good("train", "--set", "train.steps=1", "--set", f"run_dir={setting.folder}/run")
    for form in ("merged", "activation"):
        with load_expert(model, made, setting.store, form):
            off = gap(logits_of(model), setting.ours(made, "merged"))
        check(off < 1e-4, f"a trained expert, hashes compared, {form}: to {off:.1e}")
    refuses(setting, model, made)
    check((logits_of(model) == base).all(), "what was refused has changed nothing")


def refuses(setting, model, made):
    def says(text, *arguments):
        try:
            load_expert(model, *arguments)
        except ExpertError as error:
            check(text in str(error), f"refused: {error}")
        else:
            check(False, f"refused with {text}")

    other = setting.folder / "other-store"
    setting.good("decompose", "--set", f"svd.store={other}", "--set", "svd.storage=bfloat16", "--set",
                 "svd.tolerance=0.1")
    says("factor store", made, other)
    says("no expert at", setting.folder / "nowhere", setting.store)
    says("is missing in", made, setting.folder)
    says("not an expert", setting.model / "model-00001-of-00002.safetensors", setting.store)
    says("form is", made, setting.store, "lora")
    damaged = setting.folder / "damaged.safetensors"
    shutil.copy(made, damaged)
    runs.flip(damaged, -3)
    says("damaged", damaged, setting.store)


def package_in_bfloat16(setting):
    for size in (0.1, 2e-3):
        expert = setting.expert(f"b-{size}", random_z(setting.weights, 29, size))
        exported = read_folder(setting.export(expert, "merged"))
        model = setting.theirs(dtype=torch.bfloat16)
        same = count = 0
        z, _ = read_expert(expert)
        with load_expert(model, expert, setting.store):
            for name in z:
                bits = model.get_parameter(name).detach().view(torch.int16).numpy().view(np.uint16)
                wanted = np.frombuffer(exported[name][2], np.uint16).reshape(bits.shape)
                same, count = same + (bits == wanted).sum(), count + bits.size
        check(same / count > 0.995,
              f"peft_svf in bfloat16, moves of {size}: {same / count:.2%} of W' are svfleet's bits")
        nearest = 0
        for name, one in z.items():
            exact = setting.weights[name] + svd_change(setting.weights[name], one)
            bits = torch.tensor(exact).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
            nearest += (bits == np.frombuffer(exported[name][2], np.uint16).reshape(bits.shape)).sum()
        check(nearest / count < 0.9, f"control: rounded to the nearest {nearest / count:.2%} would be")


def svd_change(weight, z):
    u, s, v = np.linalg.svd(weight, full_matrices=False)
    return (u * (s * (z - 1))) @ v


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder = runs.work_folder()
    try:
        float32, bfloat16 = Setting(folder, "tiny_llama3", "float32"), Setting(folder, "tiny_llama_plain", "bfloat16")
        package_in_bfloat16(bfloat16)
        merged(bfloat16)
        lora(float32)
        other_cores(float32)
        package(float32)
        with_biases(Setting(folder, "tiny_qwen2", "float32"))
        of_family(Setting(folder, "families/gemma3", "float32"), {})
        of_family(Setting(folder, "families/phi3", "float32"),
                  {"qkv_proj": {"q_proj": 32, "k_proj": 16, "v_proj": 16},
                   "gate_up_proj": {"gate_proj": 48, "up_proj": 48}})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
