#!/usr/bin/env python3
"""The base model on the study's tasks: can they be learnt, and what are 1,000 items of them worth?

  svfleet evaluate examples/study/evaluate.yaml --out FILE
  scripts/study_base.py FILE [--split validation] [--replies N]

For each task: accuracy with its 95 % interval (Wilson, items divided by the design effect of their
clusters), replies that end, accuracy by wording, and how alike the items of a cluster are (intraclass
correlation by analysis of variance). A task can be learnt where the base is right in 10 to 80 %.
"""
import argparse
import gzip
import json
import re
import sys
from math import sqrt
from pathlib import Path
from statistics import fmean

sys.dont_write_bytecode = True
import make_study_tasks as made  # noqa: E402
import study_power as power  # noqa: E402
from study_routing import frame  # noqa: E402

Z = 1.959964


def text_of(file):
    data = file.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")


def wilson(share, n):
    middle, half = share + Z**2 / (2 * n), Z * sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return (middle - half) / (1 + Z**2 / n), (middle + half) / (1 + Z**2 / n)


def grouped(values, names):
    groups = {}
    for value, name in zip(values, names):
        groups.setdefault(name, []).append(value)
    return groups


def correlation(groups):
    """Of two items of one cluster, from the mean squares between and within clusters; 0 for clusters of one."""
    sizes, n = [len(g) for g in groups], sum(map(len, groups))
    if n == len(groups) or len(groups) == 1:
        return 0.0
    mean = sum(map(sum, groups)) / n
    between = sum(len(g) * (fmean(g) - mean) ** 2 for g in groups) / (len(groups) - 1)
    within = sum((x - fmean(g)) ** 2 for g in groups for x in g) / (n - len(groups))
    size = (n - sum(s * s for s in sizes) / n) / (len(groups) - 1)
    spread = between + (size - 1) * within
    return (between - within) / spread if spread else 0.0


def row(task, answers, items):
    right = [float(a["right"]) for a in answers]
    clusters = list(grouped(right, [i["cluster"] for i in items]).values())
    alike = correlation(clusters)
    effect = power.design_effect(sum(len(c) ** 2 for c in clusters) / len(right), max(0.0, alike))
    low, high = wilson(fmean(right), len(right) / effect)
    wordings = [fmean(g) for g in grouped(right, [frame(i["question"]) for i in items]).values()]
    return (f"| {task} | {fmean(right):.3f} | {low:.3f} to {high:.3f} | {fmean(a['ended'] for a in answers):.1%} "
            f"| {fmean(a['tokens'] for a in answers):.1f} | {min(wordings):.2f} to {max(wordings):.2f} "
            f"| {len(clusters)} | {alike:.2f} |")


def show(task, answers, items, count):
    print(f"\n{task}")
    for answer, item in list(zip(answers, items))[:count]:
        told = "right" if answer["right"] else "wrong" if answer["ended"] else "cut"
        print(f"  {told:6}{re.sub(chr(10), ' ', item['question'])} [{item['answer']}] {answer['reply']!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="what svfleet evaluate --out wrote, or that compressed by gzip")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--replies", type=int, default=0, help="also print the first N replies of each task")
    options = parser.parse_args()
    records = [json.loads(line) for line in text_of(options.file).splitlines()]
    answers = grouped([r["replies"]["base"] for r in records], [r["task"] for r in records])
    items = {}
    for task in answers:
        lines = (made.FOLDER / task / f"{options.split}.jsonl").read_text(encoding="utf-8").splitlines()
        chosen = [r["item"] for r in records if r["task"] == task]
        items[task] = [json.loads(lines[i]) for i in chosen]
    print("| task | accuracy | 95 % interval | ended | tokens | by wording | clusters | correlation |")
    print("|---|---|---|---|---|---|---|---|")
    for task in answers:
        print(row(task, answers[task], items[task]))
    for task in answers if options.replies else []:
        show(task, answers[task], items[task], options.replies)


if __name__ == "__main__":
    main()
