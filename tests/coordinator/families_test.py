#!/usr/bin/env python3
"""A tiny random folder of each family is decomposed and trained one step, twice to the same bits, and
what it has learned is exported: fused tensors are put together again, and their slices are one LoRA."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import runs
from runs import check

MODELS = runs.SOURCE / "tests/data/models"
LOGITS = os.environ.get("SVFLEET_LOGITS", str(Path(runs.SVFLEET).parent / "tests/sharing_logits"))
FAMILIES = ["mistral_window", "qwen3", "gemma2", "gemma3_text", "gemma3", "gemma3_5", "olmo2", "smollm3", "granite",
            "phi3"]
# Modules of LoRAs, and what their tensors are called in the folder.
EXPORTED = {"gemma3": ("model.language_model.", "language_model.model."),
            "gemma3_5": ("model.language_model.", "model.language_model."),
            "phi3": ("model.", "model.")}
FUSED = {"phi3": ("qkv_proj", "gate_up_proj")}
TOKENS = list(range(40, 64))


def svfleet(*arguments):
    done = subprocess.run([runs.SVFLEET, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    if done.returncode:
        sys.exit(f"FAILED: svfleet {arguments[0]}: {done.stderr}")
    return done.stdout.strip()


def model_folder(folder, family):
    """The family's folder with the tokenizer of another tiny model, which has as many tokens."""
    model = folder / "model"
    shutil.copytree(MODELS / "families" / family, model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODELS / "tiny_qwen2" / name, model)
    return model


def tensors(file):
    """As float32, by name."""
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    found = {}
    for name, entry in json.loads(raw[8:8 + size]).items():
        if name == "__metadata__":
            continue
        data = raw[8 + size + entry["data_offsets"][0]:8 + size + entry["data_offsets"][1]]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(data, np.float32)
        found[name] = values.reshape(entry["shape"])
    return found


def logits(*arguments):
    done = subprocess.run([LOGITS, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    if done.returncode:
        sys.exit(f"FAILED: {LOGITS}: {done.stderr}")
    return np.array(json.loads(done.stdout))


def check_export(family, folder, model, words):
    expert = folder / "run/experts/final.safetensors"
    merged = folder / "merged"
    svfleet("export", *words, "--expert", expert, "--format", "merged", merged)
    ids = ",".join(map(str, TOKENS))
    own = logits(model, "float32", ids, folder / "store", expert, "merged")
    exported, base = logits(merged, "float32", ids), logits(model, "float32", ids)
    apart, moved = np.abs(exported - own).max(), np.abs(base - own).max()
    check(apart < 1e-4 * moved or apart == 0, f"{family}: the merged folder is the expert: {apart} of {moved}")
    check(moved > 1e-3, f"{family}: control: the expert changes {moved}")
    before, after = tensors(model / "model.safetensors"), tensors(merged / "model.safetensors")
    check(before.keys() == after.keys(), f"{family}: the merged folder has the base's {len(before)} names")
    return before, after


def check_peft(family, folder, words, before, after):
    """B A is what the merged weights differ by, of fused tensors too; that of other modules is not."""
    peft = folder / "peft"
    svfleet("export", *words, "--expert", folder / "run/experts/final.safetensors", "--format", "peft", peft)
    loras = tensors(peft / "adapter_model.safetensors")
    modules = sorted({name.rsplit(".lora_", 1)[0] for name in loras})
    kinds = {module.rsplit(".", 1)[1] for module in modules}
    check(all(kind in kinds for kind in FUSED.get(family, [])) and (family not in FUSED or "q_proj" not in kinds),
          f"{family}: LoRAs are of {', '.join(sorted(kinds))}")
    beginning, in_folder = EXPORTED[family]

    def apart(module, other):
        name = other.removeprefix("base_model.model.").replace(beginning, in_folder, 1) + ".weight"
        change = loras[module + ".lora_B.weight"] @ loras[module + ".lora_A.weight"]
        wanted = after[name] - before[name]
        return np.abs(change - wanted).max() / np.abs(wanted).max()

    worst = max(apart(module, module) for module in modules)
    check(worst < 1e-3, f"{family}: B A of {len(modules)} modules is the merged change to {worst:.1e}")
    layers = [(module, module.replace(".layers.0.", ".layers.1.")) for module in modules if ".layers.0." in module]
    least = min(apart(*pair) for pair in layers)
    check(least > 0.1, f"{family}: control: that of the next layer is {least:.1f} off")


def check_family(family):
    folder = runs.work_folder()
    model = model_folder(folder, family)
    words = [runs.write_config(folder, steps=1), "--set", f"model.path={model}", "--set", "model.max_length=256",
             "--set", "train.prompts_per_step=2", "--quiet"]
    svfleet("decompose", *words)
    hashes = []
    for run in ("run", "again"):
        svfleet("train", *words, "--set", f"run_dir={folder / run}")
        hashes.append(svfleet("hash", folder / run))
    check(hashes[0] == hashes[1], f"{family} is decomposed and trained: {hashes[0]}")
    if family in EXPORTED:
        before, after = check_export(family, folder, model, words)
        check_peft(family, folder, words, before, after)
    shutil.rmtree(folder)


if __name__ == "__main__":
    for one in sys.argv[1:] or FAMILIES:
        check_family(one)
