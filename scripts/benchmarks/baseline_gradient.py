"""The z gradient as the published code has it, through the gradients of full weights by autograd,
of given replies: baseline_gradient.py MODEL STORE REPLIES.json THREADS RUNS DTYPE SCALE DZ

z = 1 + SCALE sin(1 + i), as bench_engine has it. The singular directions come from svfleet's store,
so that both mean the same numbers by dz, and the decomposition is not timed."""
import json
import math
import re
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from transformers import AutoModelForCausalLM

KINDS = ("gate", "up", "down")


def status_bytes(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


class Matrix:
    """W' = W + U diag(s (z - 1)) Vᵀ, in the model's own parameter."""

    def __init__(self, name, weight, store, offset, scale):
        with h5py.File(store / f"{name}.h5") as file:
            q, self.s = torch.from_numpy(file["Q"][:]), torch.from_numpy(file["sigma"][:]).float()
        original, self.weight = weight.detach().float(), weight
        if weight.shape[0] < weight.shape[1]:  # the left form
            self.u, self.vt = q, (q.T @ original) / self.s[:, None]
        else:
            self.u, self.vt = (original @ q) / self.s, q.T.contiguous()
        d = torch.tensor([scale * math.sin(1 + offset + i) for i in range(len(self.s))])
        with torch.no_grad():
            weight.copy_(original + (self.u * (self.s * d)) @ self.vt)
        weight.requires_grad_(True)

    @torch.no_grad()
    def project(self):
        """dL/dz_i = s_i u_iᵀ (dL/dW') v_i."""
        dz = self.s * (self.u * (self.weight.grad.float() @ self.vt.T)).sum(0)
        self.weight.grad = None
        return dz


def adapt(model, store, scale):
    found = {}
    for name, weight in model.named_parameters():
        match = re.search(r"layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight$", name)
        if match:
            found[int(match.group(1)), KINDS.index(match.group(2))] = (name, weight)
    matrices, offset = [], 0
    for place in sorted(found):
        matrices.append(Matrix(*found[place], store, offset, scale))
        offset += len(matrices[-1].s)
    return matrices


def batch(groups):
    """Replies with their prompts, padded on the right: tokens, mask, and what is trained."""
    rows = [(g["prompt"], r["tokens"], r["weight"]) for g in groups for r in g["replies"]]
    width = max(len(p) + len(r) for p, r, _ in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    mask, weights = torch.zeros_like(tokens), torch.zeros(len(rows), width)
    for i, (prompt, reply, weight) in enumerate(rows):
        end = len(prompt) + len(reply)
        tokens[i, :end], mask[i, :end] = torch.tensor(prompt + reply), 1
        weights[i, len(prompt) - 1 : end - 1] = weight
    return tokens, mask, weights


def gradient(model, matrices, tokens, mask, weights):
    hidden = model.model(input_ids=tokens, attention_mask=mask).last_hidden_state
    trained = weights != 0
    logits = model.lm_head(hidden[trained]).float()
    labels = tokens.roll(-1, 1)[trained]
    chosen = torch.log_softmax(logits, -1).gather(1, labels[:, None]).squeeze(1)
    (-(chosen * weights[trained]).sum()).backward()
    return torch.cat([matrix.project() for matrix in matrices])


def main():
    folder, store, replies, threads, runs, dtype, scale, out = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    model.requires_grad_(False)
    matrices = adapt(model, Path(store), float(scale))
    with open(replies, encoding="utf-8") as file:
        given = batch(json.load(file)["groups"])
    found = []
    for run in range(int(runs) + 1):  # the first warms up
        Path("/proc/self/clear_refs").write_text("5")
        before, begin = status_bytes("VmRSS"), time.monotonic()
        dz = gradient(model, matrices, *given)
        seconds = time.monotonic() - begin
        if run or runs == "0":
            found.append({"seconds": seconds, "extra_bytes": status_bytes("VmHWM") - before})
    dz.numpy().astype(np.float32).tofile(out)
    print(json.dumps({"runs": found, "length": len(dz)}))


main()
