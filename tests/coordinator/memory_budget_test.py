#!/usr/bin/env python3
"""A decomposition with more workers than memory takes fewer at a time and finishes, in a control group
that ends whoever needs too much; with the factors of a machine that has enough."""
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import runs
from runs import check

SKIPPED = 77  # ctest shows it as skipped
LIMIT = 700 << 20
HIDDEN, INNER, LAYERS = 384, 8192, 3


def write_model(folder):
    """Random weights in bfloat16, of matrices whose decomposition takes about 50 MB each."""
    source = runs.SOURCE / "tests/data/models/tiny_llama3"
    model = folder / "model"
    model.mkdir()
    for path in source.glob("*.json"):
        if "index" not in path.name:
            shutil.copy(path, model)
    config = json.loads((model / "config.json").read_text())
    config.update(hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
                  head_dim=HIDDEN // 4, torch_dtype="bfloat16")
    (model / "config.json").write_text(json.dumps(config))
    shapes = {"model.embed_tokens.weight": [320, HIDDEN], "lm_head.weight": [320, HIDDEN],
              "model.norm.weight": [HIDDEN]}
    for layer in range(LAYERS):
        for name, shape in (("mlp.gate_proj", [INNER, HIDDEN]), ("mlp.up_proj", [INNER, HIDDEN]),
                            ("mlp.down_proj", [HIDDEN, INNER]), ("self_attn.q_proj", [HIDDEN, HIDDEN]),
                            ("self_attn.k_proj", [HIDDEN // 2, HIDDEN]),
                            ("self_attn.v_proj", [HIDDEN // 2, HIDDEN]),
                            ("self_attn.o_proj", [HIDDEN, HIDDEN]), ("input_layernorm", [HIDDEN]),
                            ("post_attention_layernorm", [HIDDEN])):
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    chance, header, data = random.Random(1), {}, []
    exponents = bytes((0x3C, 0x3D, 0xBC, 0xBD)[i % 4] for i in range(256))  # between 0.008 and 0.12
    at = 0
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = bytearray(2 * count)
        values[0::2] = chance.randbytes(count)
        values[1::2] = chance.randbytes(count).translate(exponents)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + 2 * count]}
        at += 2 * count
        data.append(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(model / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in data:
            file.write(values)
    return model


def control_group():
    """A new one with the limit, or None where this machine lets nobody make one."""
    groups = dict(line.split(":")[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    name = f"svfleet-test-{os.getpid()}"
    for root, own, limit, swap in (
            ("/sys/fs/cgroup/memory", groups.get("memory"), "memory.limit_in_bytes",
             "memory.memsw.limit_in_bytes"),
            ("/sys/fs/cgroup", groups.get(""), "memory.max", "memory.swap.max")):
        for parent in (own, "/") if own else ():
            group = Path(root + parent) / name
            try:
                group.mkdir()
            except OSError:
                continue
            try:
                (group / limit).write_text(str(LIMIT))
                if (group / swap).exists():
                    (group / swap).write_text("0" if swap.endswith("max") else str(LIMIT))
                return group
            except OSError:
                group.rmdir()
    return None


def main():
    folder, group = runs.work_folder(), control_group()
    if not group:
        print("skipped: no memory control group can be made here (needs root)", flush=True)
        sys.exit(SKIPPED)
    try:
        model = write_model(folder)
        config = folder / "run.yaml"
        text = Path(runs.write_config(folder)).read_text()
        config.write_text(text.replace(str(runs.SOURCE / "tests/data/models/tiny_llama3"), str(model)))
        words = [runs.SVFLEET, "decompose", str(config), "--set", "svd.targets=mlp", "--json"]
        free = subprocess.run([*words, "--quiet", "--set", f"svd.store={folder}/free", "--set",
                               "workers=1"], capture_output=True, text=True, timeout=600)
        check(free.returncode == 0, "without a limit: " + free.stderr)
        done = subprocess.run([*words, "--set", "workers=8"], capture_output=True, text=True, timeout=600,
                              preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())))
        said = [line for line in done.stderr.splitlines() if "of 8 workers" in line]
        check(done.returncode != -signal.SIGKILL, f"8 workers are not killed by {LIMIT >> 20} MiB")
        check(done.returncode == 0 and json.loads(done.stdout)["made_now"] == 3 * LAYERS,
              "all matrices are decomposed" + (": " + done.stderr[-500:] if done.returncode else ""))
        check(len(said) == 1, "fewer worked at a time: " + "".join(said))
        check(runs.content_hash(folder / "store") == runs.content_hash(folder / "free"),
              "with the same factors")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for _ in range(50):
            try:
                group.rmdir()
                break
            except OSError:  # the kernel is not done with it
                time.sleep(0.1)


main()
