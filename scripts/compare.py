"""Prints what `svfleet evaluate --json` found as `svfleet evaluate` does: compare.py EVALUATION.json

right: replies that all rewards of their task call right; score: the mean of what the rewards gave;
expert : base: items that only the one, and only the other, got right; p: exact McNemar test. Where
scores lie between right and wrong: the mean gain in score over the base, its 95 % interval and p (paired
t-test)."""
import json
import sys
from collections import Counter
from pathlib import PurePosixPath


def short(name):
    """runs/a/experts/best.safetensors shuffled -> a/best shuffled"""
    path, ending, more = name.rpartition(".safetensors")
    if not ending:
        return name
    path = PurePosixPath(path)
    run = path.parent.parent.name if path.parent.name == "experts" else ""
    return f"{run}/{path.name}{more}" if run else path.name + more


def row(name, columns, found):
    # Evaluations kept by earlier versions have no score.
    score = f"{found['score']:.3f}" if "score" in found else "-"
    interval = f"{found['low']:.3f} to {found['high']:.3f}"
    text = (f"{name:<{columns}}{str(found['right']) + '/' + str(found['n']):>12}{found['accuracy']:>10.3f}{interval:>18}"
            f"{score:>8}{found['ended']:>8.1%}{found['mean_tokens']:>8.1f}")
    if "p_value" in found:
        text += f"{str(found['only_expert']) + ' : ' + str(found['only_base']):>16}{found['p_value']:>10.2g}"
        p = found["p_value"]
        if "score_p_value" in found:
            p = found["score_p_value"]
            gain = f"{found['score_gain']:+.3f} ({found['score_low']:+.3f} to {found['score_high']:+.3f})"
            text += f"{gain:>28}{p:>10.2g}"
        if p > 0.05:
            text += "  not distinguishable from base"
    return text


def header(columns, experts, graded=False):
    text = f"{'':<{columns}}{'right':>12}{'accuracy':>10}{'95 % interval':>18}{'score':>8}{'ended':>8}{'tokens':>8}"
    text += f"{'expert : base':>16}{'p':>10}" if experts else ""
    return text + (f"{'gain in score':>28}{'p':>10}" if graded else "")


def table(evaluation):
    results = evaluation["results"]
    names = [short(result["name"]) for result in results]
    names = [r["name"] if Counter(names)[n] > 1 else n for n, r in zip(names, results)]
    columns = max([12, *map(len, names), *(len(t["task"]) + 2 for r in results for t in r.get("by_task", []))])
    lines = [f"{evaluation['n']} item{'s' * (evaluation['n'] != 1)} of the {evaluation['split']} split",
             header(columns, len(results) > 1, "score_p_value" in results[-1])]
    for name, result in zip(names, results):
        lines.append(row(name, columns, result))
        if len(result.get("by_task", [])) > 1:
            lines += [row("  " + task["task"], columns, task) for task in result["by_task"]]
    shown = {result["name"]: name for name, result in zip(names, results)}
    for name, result in zip(names, results):
        if result.get("reached_by"):
            controls = " and ".join(f"'{shown[control]}'" for control in result["reached_by"])
            lines.append(f"A CONTROL REACHES THE EXPERT: '{name}' is not clearly better than {controls}, which must fail; "
                         "what it gains over the base is no evidence that it has learnt anything")
    return "\n".join(lines)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        print(table(json.load(file)))
