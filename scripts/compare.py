"""Prints what `svfleet evaluate --json` found as `svfleet evaluate` does: compare.py EVALUATION.json

right: replies that all rewards of their task call right; score: the mean of what the rewards gave;
expert : base: items that only the one, and only the other, got right; p: exact McNemar test. Where
scores lie between right and wrong: the mean gain in score over the base, its 95 % interval and p (paired
t-test). p (Holm): adjusted for the number of experts. Where items have several samples or come in clusters,
intervals and tests go by these, and expert : base counts them; pass@k and majority@k: docs/training.md."""
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


def two_digits(found, key):
    """Controls have no adjusted p."""
    return f"{found[key]:.2g}" if key in found else ""


def row(name, columns, found, adjusted=False):
    # Evaluations kept by earlier versions have no score.
    score = f"{found['score']:.3f}" if "score" in found else "-"
    interval = f"{found['low']:.3f} to {found['high']:.3f}"
    text = (f"{name:<{columns}}{str(found['right']) + '/' + str(found['n']):>12}{found['accuracy']:>10.3f}{interval:>18}"
            f"{score:>8}{found['ended']:>8.1%}{found['mean_tokens']:>8.1f}")
    if "p_value" in found:
        text += f"{str(found['only_expert']) + ' : ' + str(found['only_base']):>16}{found['p_value']:>10.2g}"
        p = found.get("p_adjusted", found["p_value"])
        if adjusted:
            text += f"{two_digits(found, 'p_adjusted'):>10}"
        if "score_p_value" in found:
            p = found["score_p_value"]
            gain = f"{found['score_gain']:+.3f} ({found['score_low']:+.3f} to {found['score_high']:+.3f})"
            text += f"{gain:>28}{p:>10.2g}"
            if adjusted:
                text += f"{two_digits(found, 'score_p_adjusted'):>10}"
            p = found.get("score_p_adjusted", p)
        if p > 0.05:
            text += "  not distinguishable from base"
    return text


def header(columns, experts, graded=False, adjusted=False):
    text = f"{'':<{columns}}{'right':>12}{'accuracy':>10}{'95 % interval':>18}{'score':>8}{'ended':>8}{'tokens':>8}"
    text += f"{'expert : base':>16}{'p':>10}" if experts else ""
    holm = f"{'p (Holm)':>10}" if adjusted else ""
    return text + holm + (f"{'gain in score':>28}{'p':>10}{holm}" if graded else "")


def asked(evaluation):
    text = f"{evaluation['n']} item{'s' * (evaluation['n'] != 1)} of the {evaluation['split']} split"
    if "samples" in evaluation:
        text += f", {evaluation['samples']} samples of each"
    if "clusters" in evaluation:
        text += f", in {evaluation['clusters']} cluster{'s' * (evaluation['clusters'] != 1)}"
    return text


def share(at, name):
    return f"{at[name]:.3f} ({at[name + '_low']:.3f} to {at[name + '_high']:.3f})"


def lines_at_k(results, names, columns):
    """What k samples of an item are worth, where there are several."""
    if "at_k" not in results[0]:
        return []
    lines = [f"{'':<{columns}}{'k':>6}{'pass@k':>28}{'majority@k':>28}"]
    for name, result in zip(names, results):
        lines += [f"{name if at['k'] == 1 else '':<{columns}}{at['k']:>6}{share(at, 'pass'):>28}"
                  f"{share(at, 'majority'):>28}" for at in result["at_k"]]
    return lines


def table(evaluation):
    results = evaluation["results"]
    names = [short(result["name"]) for result in results]
    names = [r["name"] if Counter(names)[n] > 1 else n for n, r in zip(names, results)]
    columns = max([12, *map(len, names), *(len(t["task"]) + 2 for r in results for t in r.get("by_task", []))])
    adjusted = any("p_adjusted" in result for result in results)
    lines = [asked(evaluation), header(columns, len(results) > 1, "score_p_value" in results[-1], adjusted)]
    for name, result in zip(names, results):
        lines.append(row(name, columns, result, adjusted))
        if len(result.get("by_task", [])) > 1:
            lines += [row("  " + task["task"], columns, task) for task in result["by_task"]]
    lines += lines_at_k(results, names, columns)
    shown = {result["name"]: name for name, result in zip(names, results)}
    for name, result in zip(names, results):
        if result.get("reached_by"):
            controls = " and ".join(f"'{shown[control]}'" for control in result["reached_by"])
            lines.append(f"A CONTROL REACHES THE EXPERT: '{name}' is not clearly better than {controls}, which must fail; "
                         "what it gains over the base is no evidence that it has learnt anything")
    for run in evaluation.get("read_before", []):
        times = f"{run['times']} time{'s' * (run['times'] != 1)}"
        lines.append(f"the {evaluation['split']} split of '{run['run']}' was read {times} before: "
                     "what was chosen by it is no longer tested by it")
    return "\n".join(lines)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        print(table(json.load(file)))
