#!/usr/bin/env python3
"""Writes tests/rl/adamw_fixture.json: torch.optim.AdamW in float32 and float64, 20 steps.

Needs PyTorch with Python bindings. Run again only when the cases change.
"""
import json
import pathlib

import torch

STEPS, SIZE = 20, 8
CASES = [
    {"learning_rate": 5e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0},
    {"learning_rate": 5e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.1},
    {"learning_rate": 1e-2, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3, "weight_decay": 0.01},
]


def run(case, start, gradients, dtype):
    p = torch.nn.Parameter(start.to(dtype).clone())
    optimizer = torch.optim.AdamW(
        [p],
        lr=case["learning_rate"],
        betas=(case["beta1"], case["beta2"]),
        eps=case["epsilon"],
        weight_decay=case["weight_decay"],
    )
    path = []
    for gradient in gradients:
        p.grad = gradient.to(dtype)
        optimizer.step()
        path.append(p.detach().double().tolist())
    state = optimizer.state[p]
    return path, state["exp_avg"].double().tolist(), state["exp_avg_sq"].double().tolist()


def main():
    torch.manual_seed(11)
    start = torch.randn(SIZE) * 0.1
    # Sizes from 1e-6 to 10 with changing signs, and a few exact zeros.
    gradients = torch.randn(STEPS, SIZE) * 10.0 ** torch.linspace(-6, 1, SIZE)
    gradients[3] = 0
    cases = []
    for case in CASES:
        float32, _, _ = run(case, start, gradients, torch.float32)
        float64, m, v = run(case, start, gradients, torch.float64)
        cases.append({**case, "float32": float32, "float64": float64, "m": m, "v": v})
    fixture = {
        "torch": torch.__version__.split("+")[0],
        "start": start.double().tolist(),
        "gradients": gradients.double().tolist(),
        "cases": cases,
    }
    out = pathlib.Path(__file__).resolve().parent.parent / "tests" / "rl" / "adamw_fixture.json"
    out.write_text(json.dumps(fixture) + "\n", encoding="utf-8")
    print(out, out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
