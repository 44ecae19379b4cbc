"""Pictures of a run: RUN/curves.png from its log, RUN/z.png from its expert. See scripts/plot_run."""
import argparse
import json
import os
import re
import struct
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE, GREY = "#1f77b4", "#d95f02", "#888888"
LAYER = re.compile(r"\.layers\.(\d+)\.(?:.*\.)?([^.]+)\.weight$")


def read_log(path):
    """(steps, validations): one object per step, in order; of a redone step the last one counts."""
    steps, validations = {}, {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # torn by a crash; the step was redone
        kind = {"step": steps, "validation": validations}.get(entry.get("event"))
        if kind is not None:
            kind[entry["step"]] = entry
    return [steps[k] for k in sorted(steps)], [validations[k] for k in sorted(validations)]


def read_expert(path):
    """z by weight name, from a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body, z = json.loads(data[8 : 8 + length]), data[8 + length :], {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            assert entry["dtype"] == "F32", f"{name} has type {entry['dtype']}"
            z[name] = np.frombuffer(body[begin:end], "<f4")
    return z


def by_kind(z):
    """{kind of matrix: [(layer, z)] by layer}, kinds in the order of their first appearance."""
    kinds = {}
    for name, values in z.items():
        match = LAYER.search(name)
        layer, kind = (int(match[1]), match[2]) if match else (0, name)
        kinds.setdefault(kind, []).append((layer, values))
    return {kind: sorted(rows, key=lambda row: row[0]) for kind, rows in kinds.items()}


def series(entries, key):
    """(steps, values) of the entries that have a finite number under `key`."""
    points = [(e["step"], e[key]) for e in entries if isinstance(e.get(key), (int, float))]
    points = [p for p in points if np.isfinite(p[1])]
    return [p[0] for p in points], [p[1] for p in points]


def smooth(values, width=5):
    """Mean over a window around each point, shorter at the ends."""
    half = width // 2
    return [float(np.mean(values[max(0, i - half) : i + half + 1])) for i in range(len(values))]


def curve(axes, entries, key, label, color=BLUE, smoothed=False):
    steps, values = series(entries, key)
    if not steps:
        return
    if smoothed and len(steps) > 5:
        axes.plot(steps, values, color=color, alpha=0.3, linewidth=1)
        axes.plot(steps, smooth(values), color=color, linewidth=2, label=f"{label} (mean of 5 steps)")
    else:
        axes.plot(steps, values, color=color, linewidth=1.5, marker=".", markersize=4, label=label)


def draw_curves(steps, validations, title):
    figure, grid = plt.subplots(3, 3, figsize=(14, 10), constrained_layout=True)
    reward, accuracy, ended, signal, kl, gradient, tokens, speed, seconds = grid.flat
    curve(reward, steps, "reward", "mean reward", smoothed=True)
    curve(accuracy, steps, "accuracy", "sampled, in training", smoothed=True)
    curve(accuracy, validations, "accuracy", "validation", ORANGE)
    curve(ended, steps, "ended_fraction", "replies that end by themselves")
    curve(signal, steps, "signal_fraction", "groups with signal")
    curve(kl, steps, "kl", "KL(policy ‖ base) per reply")
    curve(gradient, steps, "gradient_norm", "gradient norm")
    curve(tokens, steps, "mean_tokens", "tokens per reply")
    curve(speed, steps, "tokens_per_s", "tokens sampled per second")
    phases = [p for p in ("generate", "gradient", "reduce", "merge", "save")
              if any(p in e.get("seconds", {}) for e in steps)]
    if phases:
        rows = [[e.get("seconds", {}).get(p, 0) for e in steps] for p in phases]
        seconds.stackplot([e["step"] for e in steps], rows, labels=phases, alpha=0.8)
    names = ["Reward", "Accuracy", "Replies that end", "Groups with signal", "KL to the base model",
             "Gradient norm", "Length of replies", "Speed", "Seconds per step, by phase"]
    for axes, name in zip(grid.flat, names):
        axes.set_title(name, loc="left", fontsize=11)
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=False)
        else:
            axes.text(0.5, 0.5, "not in the log", ha="center", color=GREY, transform=axes.transAxes)
    for axes in (accuracy, ended, signal):
        axes.set_ylim(-0.02, 1.02)
    for axes in (tokens, speed, seconds):
        axes.set_ylim(bottom=0)
    figure.suptitle(title, fontsize=13)
    return figure


def columns(values, count):
    """Mean |z - 1| over `count` bins from the largest singular value to the smallest."""
    return [float(np.abs(part - 1).mean()) for part in np.array_split(values, min(count, len(values)))]


def draw_z(kinds, title):
    """Per kind of matrix, above: the spread of z in each layer; below: how far z moved, by rank."""
    figure, grid = plt.subplots(2, len(kinds), figsize=(max(5, 4.2 * len(kinds)), 9), squeeze=False,
                                constrained_layout=True, sharey="row")
    heat = {kind: np.array([columns(v, 32) for _, v in rows]) for kind, rows in kinds.items()}
    largest = max(h.max() for h in heat.values()) or 1.0
    for column, (kind, rows) in enumerate(kinds.items()):
        layers = [layer for layer, _ in rows]
        low, p5, median, p95, high = np.array([np.percentile(v, [0, 5, 50, 95, 100]) for _, v in rows]).T
        axes = grid[0, column]
        axes.axhline(1, color=GREY, linewidth=0.8)
        axes.vlines(layers, low, high, color=BLUE, alpha=0.35, linewidth=2, label="smallest to largest")
        axes.vlines(layers, p5, p95, color=BLUE, linewidth=4, label="5 % to 95 %")
        axes.scatter(layers, median, color=ORANGE, s=14, zorder=3, label="median")
        axes.set_title(f"{kind}: z", loc="left", fontsize=11)
        axes.set_xlabel("layer")
        axes.grid(alpha=0.25)
        axes = grid[1, column]
        image = axes.pcolormesh(np.arange(heat[kind].shape[1] + 1) / heat[kind].shape[1] * len(rows[0][1]),
                                np.append(layers, layers[-1] + 1) - 0.5, heat[kind],
                                cmap="viridis", vmin=0, vmax=largest)
        axes.set_title(f"{kind}: mean |z − 1|", loc="left", fontsize=11)
        axes.set_xlabel("singular value, largest first")
    grid[0, 0].legend(fontsize=8, frameon=False)
    grid[0, 0].set_ylabel("z")
    grid[1, 0].set_ylabel("layer")
    figure.colorbar(image, ax=list(grid[1]), shrink=0.9)
    figure.suptitle(title, fontsize=13)
    return figure


def save(figure, path):
    """Whole or not at all; no date inside, so that equal runs give equal files."""
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)
    os.replace(temporary, path)
    print(path)


def main():
    parser = argparse.ArgumentParser(prog="plot_run", description="Pictures of a run: RUN/curves.png and RUN/z.png.")
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--expert", type=Path, help="default: RUN/experts/final.safetensors")
    arguments = parser.parse_args()
    log, expert = arguments.run / "log.jsonl", arguments.expert or arguments.run / "experts" / "final.safetensors"
    if not log.is_file():
        sys.exit(f"plot_run: {log} does not exist; is {arguments.run} a run folder?")
    steps, validations = read_log(log)
    if not steps:
        sys.exit(f"plot_run: {log} has no finished step yet")
    name = arguments.run.resolve().name
    save(draw_curves(steps, validations, f"{name}: {len(steps)} steps"), arguments.run / "curves.png")
    if expert.is_file():
        z = read_expert(expert)
        count = sum(v.size for v in z.values())
        title = f"{name}: {expert.name}, {count:,} numbers in {len(z)} matrices"
        save(draw_z(by_kind(z), title), arguments.run / "z.png")
    else:
        print(f"plot_run: no picture of z: {expert} does not exist (yet)", file=sys.stderr)


if __name__ == "__main__":
    main()
