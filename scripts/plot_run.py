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
KINDS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LAYER = re.compile(r"\.layers\.(\d+)\.(?:.*\.)?([^.]+)\.weight$")


def read_records(path):
    """The objects of a file of lines: one without its end is torn."""
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            yield record


def experts_of(run):
    """Names of the experts that a run trains together; one without a name where it is a run of one."""
    file = run / "run.json"
    return (json.loads(file.read_text()).get("experts") if file.is_file() else None) or [None]


def read_log(path, expert=None):
    """(steps, validations) in order of their steps, by the rule of coordinator/run/log.h: of a step
    that was done again the last attempt counts. A step's z stands in its record or, after most
    steps, in the line of the same attempt in z.jsonl; an older run has no such file. Of several experts'
    records those of `expert` count."""
    last = {(r.get("kind"), r.get("name"), r["step"]): r for r in read_records(path)
            if r.get("expert") == expert}

    def of(kind, name):
        return [last[key] for key in sorted(k for k in last if k[:2] == (kind, name))]

    steps, beside = of("step", None), path.with_name("z.jsonl")
    z = {(r["step"], r.get("attempt")): r.get("z") for r in read_records(beside)
         if r.get("expert") == expert} if beside.is_file() else {}
    for record in steps:
        if "z" not in record and (record["step"], record.get("attempt")) in z:
            record["z"] = z[record["step"], record.get("attempt")]
    return steps, of("evaluation", "validation")


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
    """{kind of matrix: [(layer, z)] by layer}, kinds in the order in which a layer uses them."""
    kinds = {}
    for name, values in z.items():
        match = LAYER.search(name)
        layer, kind = (int(match[1]), match[2]) if match else (0, name)
        kinds.setdefault(kind, []).append((layer, values))
    order = sorted(kinds, key=lambda kind: (KINDS.index(kind) if kind in KINDS else len(KINDS), kind))
    return {kind: sorted(kinds[kind], key=lambda row: row[0]) for kind in order}


def series(records, *keys):
    """(steps, values) of the records that have a finite number at that place."""
    steps, values = [], []
    for record in records:
        value = record
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, (int, float)) and np.isfinite(value):
            steps.append(record["step"])
            values.append(value)
    return steps, values


def wilson(share, n, z=1.959964):
    """The 95 % interval of a share that was measured on n replies (Wilson 1927)."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def smooth(values, width=5):
    """Mean over a window around each point, shorter at the ends."""
    half = width // 2
    return [float(np.mean(values[max(0, i - half) : i + half + 1])) for i in range(len(values))]


def curve(axes, records, *keys, label=None, color=BLUE, smoothed=False, line="-"):
    steps, values = series(records, *keys)
    if not steps:
        return
    if smoothed and len(steps) > 5:
        axes.plot(steps, values, color=color, alpha=0.3, linewidth=1)
        axes.plot(steps, smooth(values), color=color, linewidth=2, label=f"{label}, mean of 5 steps")
    else:
        axes.plot(steps, values, line, color=color, linewidth=1.5, marker="." if line != " " else "o", markersize=5, label=label)


def by_task(records):
    """{task: its records, with their steps}; empty where there is only one task, or an older run."""
    tasks = {}
    for record in records:
        for one in record.get("by_task") or []:
            if one["accuracy"] is None:  # none of its prompts in this step
                continue
            tasks.setdefault(one["task"], []).append({**one, "step": record["step"]})
    return tasks if len(tasks) > 1 else {}


def draw_tasks(row, steps, validations):
    """A row for the tasks of a mix: sampled in training (lines), and in validation (dots)."""
    panels = {"accuracy": "Accuracy by task", "score": "Score by task",
              "ended_fraction": "Replies that end by themselves, by task", "mean_tokens": "Length by task (tokens per reply)"}
    sampled, validated = by_task(steps), by_task(validations)
    for axes, key in zip(row, panels):
        for number, task in enumerate(sampled):
            color = plt.get_cmap("tab10")(number % 10)
            at, values = series(sampled[task], key)
            axes.plot(at, smooth(values), color=color, linewidth=1.5, label=f"{task}, mean of 5 steps")
            at, values = series(validated.get(task, []), key)
            if at:
                axes.plot(at, values, "o", color=color, markersize=5, label=f"{task}, validation")
    return dict(zip(row, panels.values()))


def draw_score(axes, steps, validations):
    """Where it is not the share of right replies: several rewards."""
    if any(abs(r["score"] - r["accuracy"]) > 1e-9 for r in steps + validations if "score" in r and "accuracy" in r):
        curve(axes, steps, "score", label="score, sampled in training", color=GREY)
        curve(axes, validations, "score", label="score, validation", color="black", line=" ")


def draw_accuracy(axes, steps, validations):
    measured = [r for r in steps if r.get("counted") and isinstance(r.get("accuracy"), (int, float))]
    if measured:
        low, high = np.array([wilson(r["accuracy"], r["counted"]) for r in measured]).T
        axes.fill_between([r["step"] for r in measured], low, high, color=BLUE, alpha=0.15, linewidth=0,
                          label=f"95 % interval of a step's {measured[-1]['counted']} replies")
    curve(axes, steps, "accuracy", label="sampled in training", smoothed=True)
    points = [r for r in validations if "accuracy" in r]
    if points:
        value, low, high = np.array([[r["accuracy"], r.get("low", r["accuracy"]), r.get("high", r["accuracy"])]
                                     for r in points]).T
        axes.errorbar([r["step"] for r in points], value, [value - low, high - value], color=ORANGE, fmt="o",
                      markersize=5, capsize=3, label=f"validation, {points[-1].get('n', '?')} items, greedy")
        chosen = [r for r in points if r["step"] == points[-1].get("best_step")]  # by mean score
        best = chosen[0] if chosen else points[int(np.argmax(value))]
        axes.annotate(f"{best['accuracy']:.3f}", (best["step"], best["accuracy"]), color=ORANGE,
                      xytext=(-5, -14), textcoords="offset points", ha="right", fontsize=9)
    draw_score(axes, steps, validations)


def draw_seconds(axes, steps):
    """Where the time goes; what several workers did side by side is added up."""
    names = {"generate": "generate", "gradient": "gradient", "base": "base model, for KL", "merge": "merge",
             "validate": "validate", "reduce": "reduce", "save": "save"}
    phases = [p for p in names if any(p in r.get("seconds", {}) for r in steps)]
    bottom = np.zeros(len(steps))
    for number, phase in enumerate(phases):
        height = np.array([r.get("seconds", {}).get(phase, 0) for r in steps])
        axes.bar([r["step"] for r in steps], height, 1.0, bottom, color=plt.get_cmap("Set2")(number), label=names[phase])
        bottom += height
    curve(axes, steps, "wall_s", label="by the clock", color="black")
    if phases:
        axes.set_ylim(top=1.35 * bottom.max())  # room for the legend
        axes.legend(fontsize=8, frameon=False, ncols=3, loc="upper center")


def draw_curves(steps, validations, title):
    rows = 4 if by_task(steps) else 3
    figure, grid = plt.subplots(rows, 4, figsize=(19, 11 * rows / 3), constrained_layout=True)
    (reward, accuracy, ended, signal), (kl, entropy, gradient, tokens), (z, mismatch, speed, seconds) = grid[:3]
    curve(reward, steps, "reward", label="mean over replies", smoothed=True)
    draw_accuracy(accuracy, steps, validations)
    curve(ended, steps, "ended_fraction", label="sampled in training")
    curve(ended, validations, "ended_fraction", label="validation", color=ORANGE, line=" ")
    curve(signal, steps, "signal_fraction", label="their replies differ in reward", smoothed=True)
    curve(kl, steps, "kl", "k1", label="k1, unbiased")
    curve(kl, steps, "kl", "k3", label="k3, unbiased, less noisy", color=ORANGE)
    curve(entropy, steps, "entropy", label="of the sampled distribution")
    curve(gradient, steps, "gradient_norm", label="before clipping")
    curve(tokens, steps, "mean_tokens", label="sampled in training")
    curve(tokens, validations, "mean_tokens", label="validation", color=ORANGE, line=" ")
    curve(z, steps, "largest_z_move", label="largest |z − 1|")
    spread = [{"step": r["step"], "z": float(np.mean([m["std"] for m in r["z"].values()]))} for r in steps if r.get("z")]
    curve(z, spread, "z", label="standard deviation of z, mean over matrices", color=ORANGE)
    trained = [r for r in steps if r.get("skipped_groups") != r.get("groups", 1)]  # others measured nothing
    curve(mismatch, trained, "log_prob_mismatch", "mean", label="mean over tokens")
    curve(mismatch, trained, "log_prob_mismatch", "max", label="largest", color=ORANGE)
    curve(speed, steps, "tokens_per_s", label="sampled tokens by the clock")
    draw_seconds(seconds, steps)
    titles = {reward: "Reward", accuracy: "Accuracy (share of right replies)", ended: "Replies that end by themselves (share)",
              signal: "Prompts with signal (share)", kl: "KL(policy ‖ base) (nats per reply)",
              entropy: "Entropy (nats per token)", gradient: "Gradient norm", tokens: "Length (tokens per reply)",
              z: "How far z has moved", mismatch: "|log π sampled − log π trained| (nats)",
              speed: "Speed (tokens per second)", seconds: "Seconds per step, of all workers added up"}
    if rows > 3:
        titles.update(draw_tasks(grid[3], steps, validations))
    for axes, name in titles.items():
        axes.set_title(name, loc="left", fontsize=11)
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlim(0, steps[-1]["step"] + 1)
        axes.grid(alpha=0.25)
        if axes.get_legend():
            continue
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=False)
        else:
            axes.text(0.5, 0.5, "not in the log", ha="center", color=GREY, transform=axes.transAxes)
    for axes in (accuracy, ended, signal, *grid[3:].flat[:3]):
        axes.set_ylim(-0.02, 1.02)
    for axes in (entropy, gradient, tokens, z, mismatch, speed, seconds, *grid[3:].flat[3:]):
        axes.set_ylim(bottom=0)
    figure.suptitle(title, fontsize=13)
    return figure


def columns(values, count):
    """Mean |z - 1| over `count` bins from the largest singular value to the smallest."""
    return [float(np.abs(part - 1).mean()) for part in np.array_split(values, min(count, len(values)))]


def draw_z(kinds, title):
    """Per kind of matrix, above: the spread of z in each layer; below: how far z moved, by rank."""
    figure, grid = plt.subplots(2, len(kinds), figsize=(max(6, 4.6 * len(kinds)), 9), squeeze=False,
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
        moved = np.sqrt(np.mean(np.concatenate([v - 1 for _, v in rows]) ** 2))
        axes.set_title(f"{kind}: z of each layer (RMS of z − 1: {moved:.3f})", loc="left", fontsize=11)
        axes.set_xlabel("layer")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes = grid[1, column]
        image = axes.pcolormesh(np.arange(heat[kind].shape[1] + 1) / heat[kind].shape[1] * len(rows[0][1]),
                                np.append(layers, layers[-1] + 1) - 0.5, heat[kind],
                                cmap="viridis", vmin=0, vmax=largest)
        axes.set_title(f"{kind}: mean |z − 1| of neighbours", loc="left", fontsize=11)
        axes.set_xlabel("number of the singular value, largest first")
        axes.yaxis.get_major_locator().set_params(integer=True)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    grid[0, 0].set_ylabel("z")
    grid[1, 0].set_ylabel("layer")
    figure.colorbar(image, ax=list(grid[1]), shrink=0.9, label="mean |z − 1|")
    figure.suptitle(title, fontsize=13)
    return figure


def save(figure, path):
    """Whole or not at all; no date inside, so that equal runs give equal files."""
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})
    plt.close(figure)
    os.replace(temporary, path)
    print(path)


def draw(run, expert, file):
    """The pictures of an expert, beside the run's log; of several with its name in theirs."""
    log, suffix = run / "log.jsonl", f"-{expert}" if expert else ""
    steps, validations = read_log(log, expert)
    if not steps:
        sys.exit(f"plot_run: {log} has no finished step{f' of {expert}' if expert else ''} yet")
    name = run.resolve().name + (f", {expert}" if expert else "")
    save(draw_curves(steps, validations, f"{name}: {steps[-1]['step']} steps"), run / f"curves{suffix}.png")
    if file.is_file():
        z = read_expert(file)
        count = sum(v.size for v in z.values())
        title = f"{name}: {file.name}, {count:,} numbers in {len(z)} matrices"
        save(draw_z(by_kind(z), title), run / f"z{suffix}.png")
    else:
        print(f"plot_run: no picture of z: {file} does not exist (yet)", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(
        prog="plot_run", description="Pictures of a run: RUN/curves.png and RUN/z.png; of several experts "
        "RUN/curves-NAME.png and RUN/z-NAME.png.")
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--expert", type=Path, help="default: RUN/experts/final.safetensors")
    arguments = parser.parse_args()
    run, experts = arguments.run, experts_of(arguments.run)
    if not (run / "log.jsonl").is_file():
        sys.exit(f"plot_run: {run / 'log.jsonl'} does not exist; is {run} a run folder?")
    if arguments.expert and experts != [None]:
        sys.exit(f"plot_run: {run} has several experts, {', '.join(experts)}, and draws the final file of "
                 "each; leave out --expert")
    for expert in experts:
        draw(run, expert, arguments.expert or run / "experts" / (expert or "") / "final.safetensors")


if __name__ == "__main__":
    main()
