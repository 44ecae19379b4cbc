"""The tables of a folder of results, between marks of a page. Every figure comes from the kept files."""
import re
from pathlib import Path

from studying import pictures, tables_second
from studying.inference import bootstrap_interval, flip_p, holm, sums_by_cluster, verdict
from studying.kept import Kept
from studying.markdown import spread, table
from studying.plan import HYPOTHESES, read

BEGIN, END = "<!-- scripts/study: what follows is generated -->", "<!-- scripts/study: end -->"


def seeds_of(policies, name):
    """{seed: policy} of `name SEED`."""
    return {match[1]: policy for policy in policies if (match := re.fullmatch(re.escape(name) + r" (\d+)", policy))}


def test_of(kept, hypothesis, plan):
    """One primary hypothesis on its items, or None where they are not there yet."""
    task, chosen = hypothesis["task"], kept.report(f"sealed/choices-{hypothesis['task']}")
    items = kept.items(f"sealed/primary-{task}")
    if not items or not chosen:
        return None
    rule = chosen[hypothesis["against"]]
    differences, by_seed = [], []
    for seed, label in sorted(rule.items(), key=lambda pair: int(pair[0])):
        first, second = ([float(item["replies"][policy]["right"]) for item in items]
                         for policy in (f"{hypothesis['method']} {seed}", f"{label} {seed}"))
        differences.append([a - b for a, b in zip(first, second)])
        by_seed.append((sum(first) / len(items), sum(second) / len(items), label))
    sums, counts = sums_by_cluster(differences, [item["cluster"] or str(item["item"]) for item in items])
    low, high = bootstrap_interval(sums, counts, plan["resamples"])
    return {"name": hypothesis["name"], "task": task, "by_seed": by_seed, "mean": float(sums.mean(axis=0).sum() / counts.sum()),
            "low": low, "high": high, "p": flip_p(sums, plan["flips"]), "items": len(items), "clusters": len(counts),
            "disagree": sum(any(row[i] for row in differences) for i in range(len(items))) / len(items)}


def primary(found, plan):
    """found: what test_of() gave."""
    if not found:
        return ["The test split has not been read."]
    given = {one["task"]: one for one in plan["smallest_difference"]["table"]}
    lines = ["### The five hypotheses", "", "The few-shot search against the one expert that is best on the same shots, test split, "
             f"{found[0]['items']} items, {len(found[0]['by_seed'])} seeds; what can be found is the smallest difference at 80 % power, "
             "said beforehand.", ""]
    rows, said, adjusted = [], [], holm([one["p"] for one in found])
    for one, p in zip(found, adjusted):
        seeds = ", ".join(f"{a:.3f} / {b:.3f} ({label})" for a, b, label in one["by_seed"])
        said.append(verdict(one["mean"], one["low"], one["high"], p, plan["verdict"]["p_at_most"]))
        rows.append([one["name"], one["task"], f"{one['mean']:+.3f}", f"{one['low']:+.3f} to {one['high']:+.3f}", f"{one['p']:.2g}",
                     f"{p:.2g}", f"**{said[-1]}**",
                     given[one["task"]]["first_step"], f"{one['disagree']:.2f}", seeds])
    lines += table(["", "task", "difference", "95 % interval", "p", "p (Holm)", "the search is", "smallest found", "disagree (any seed)",
                    "each seed: search / single"], rows)
    lines[2:2] = [f"Of {len(found)} unseen tasks the few-shot search is better than the best single expert on {said.count('better')}, "
                  f"worse on {said.count('worse')}, and not distinguishable from it on {said.count('not distinguishable')}.", ""]
    if len(found) < len(plan["primary"]):
        lines += ["", f"Of {len(plan['primary'])} hypotheses {len(found)} have been measured: Holm's p is not final."]
    return lines


AGAINST = [("base", "the base"), ("best_single_on_shots", "best single on the shots"), ("uniform", "uniform mixture"),
           ("random_pool", "the same search over random z"), ("new_z", "a new z on the shots"), ("oracle", "the oracle")]


def policy_of(kept, method, task, seed):
    """The name in sealed/all-TASK of what a method chose for a seed."""
    chosen = (kept.report(f"sealed/choices-{task}") or {}).get(method)
    return "base" if method == "base" else f"{chosen[seed] if chosen else method} {seed}"


def difference(kept, task, other, plan):
    """Few-shot search less another method on the exploratory items: (mean, low, high), or None."""
    items = kept.items(f"sealed/all-{task}")
    seeds = sorted(seeds_of(items[0]["replies"], "few_shot")) if items else []
    rows = []
    for seed in seeds:
        pair = [f"few_shot {seed}", policy_of(kept, other, task, seed)]
        if not all(policy in items[0]["replies"] for policy in pair):
            return None
        rows.append([float(item["replies"][pair[0]]["right"]) - float(item["replies"][pair[1]]["right"]) for item in items])
    if not rows:
        return None
    sums, counts = sums_by_cluster(rows, [item["cluster"] or str(item["item"]) for item in items])
    return float(sums.mean(axis=0).sum() / counts.sum()), *bootstrap_interval(sums, counts, plan["resamples"] // 5)


def against(found, tasks):
    """Exploratory: the search beside everything that it should be better than. found: {words: a difference of each task}."""
    rows = [[words, *("-" if one is None else f"{one[0]:+.3f} ({one[1]:+.3f} to {one[2]:+.3f})" for one in of_tasks)]
            for words, of_tasks in found.items()]
    return ["### The search against others, exploratory", "", "Difference in accuracy of the few-shot search, with its 95 % interval over "
            "seeds and clusters, not corrected for their number. What the experts' skills are worth is what it gains over random z.", "",
            *table(["few-shot search less", *tasks], rows)] if rows else []


def picture_of(tested, found, tasks):
    """All of it at a glance: the hypotheses in bold, the exploratory differences beside them."""
    groups = []
    for place, task in enumerate(tasks):
        ones = [pictures.Difference("best single expert on the shots", one["mean"], one["low"], one["high"], True)
                for one in tested if one["task"] == task]
        ones += [pictures.Difference(words, *of_tasks[place]) for words, of_tasks in found.items()
                 if of_tasks[place] and not (ones and words == "best single on the shots")]
        if ones:
            groups.append((task, ones))
    return pictures.differences(groups) if groups else None


METHODS = [("base", "the base"), ("numbers", "expert numbers"), ("arithmetic", "expert arithmetic"), ("sentiment", "expert sentiment"),
           ("letters", "expert letters"), ("best_single_on_shots", "best single on the shots"), ("top_1", "largest share alone (hard top-1)"),
           ("oracle", "best single on validation items of the task itself (an oracle)"), ("uniform", "uniform mixture"),
           ("few_shot", "few-shot search"), ("random_pool", "the same search over random z of equal norms"),
           ("new_z", "a new z on the shots"), ("prompt", "prompt"), ("classifier", "classifier")]


def accuracies_of(kept, method, task):
    """Of each seed."""
    measured = kept.accuracies(f"sealed/all-{task}")
    chosen = kept.report(f"sealed/choices-{task}") or {}
    if method == "base":
        return [measured["base"][task]] if measured else []
    if method in ("prompt", "classifier"):
        routed = [kept.accuracies(name) for name in kept.names("sealed") if re.search(rf"/{method}-\d+$", name)]
        return [by[task] for one in routed for policy, by in one.items() if method in policy and task in by]
    if method in chosen:
        rule = chosen[method]
        return [measured[f"{label} {seed}"][task] for seed, label in rule.items() if f"{label} {seed}" in measured]
    return [measured[policy][task] for policy in seeds_of(measured, method).values()]


def methods(kept, tasks):
    rows = []
    for method, words in METHODS:
        cells = [spread(accuracies_of(kept, method, task)) for task in tasks]
        if any(cell != "-" for cell in cells):
            rows.append([words, *cells])
    if not rows:
        return []
    return ["### All methods, exploratory", "", "Accuracy on the first items of each test split: mean over seeds, and each seed. "
            "Chosen after the hypotheses and not corrected for their number. Routed rows are of fewer items.", "", *table(["", *tasks], rows)]


def costs(kept):
    spent = kept.block_minutes()
    return ["### What it cost", "", *table(["block", "minutes"], [[name, f"{time:.1f}"] for name, time in spent.items()])] if spent else []


def sealed(kept):
    note = kept.report("sealed")
    if not note:
        return []
    return [f"The test split was opened on {note['opened']}, hypotheses {note['hypotheses'][:12]} of commit {note['committed'][:12]}, "
            f"{len(note['measured'])} experts."]


def page(folder, plan, name):
    """(lines, {file: picture}) of a page that is called `name`."""
    kept = Kept(Path(folder))
    tasks = [one["task"] for one in plan["primary"]]
    tested = [one for one in (test_of(kept, h, plan) for h in plan["primary"]) if one]
    found = {words: [difference(kept, task, other, plan) for task in tasks] for other, words in AGAINST}
    found = {words: of_tasks for words, of_tasks in found.items() if any(of_tasks)}
    shown, made = {}, {"differences": (picture_of(tested, found, tasks), "What the few-shot search gains over others, with 95 % intervals"),
                       "curves": (tables_second.curves(kept), "Accuracy of the replies in training, each seed and their mean")}
    for kind, (picture, words) in made.items():
        if picture:
            shown[kind] = (f"{name}-{kind}.svg", picture, [f"![{words}]({name}-{kind}.svg)"])
    image = lambda kind: shown[kind][2] if kind in shown else []
    parts = [primary(tested, plan), image("differences"), sealed(kept), against(found, tasks), methods(kept, tasks),
             tables_second.training(kept), image("curves"), *tables_second.all_tables(kept), costs(kept)]
    lines = [BEGIN, "## Results", "", "Made by `scripts/study` from kept results; nothing here is written by hand.", ""]
    for part in parts:
        lines += part + [""] if part else []
    return "\n".join(lines + [END]) + "\n", {file: picture for file, picture, _ in shown.values()}


def write(folder, target, plan=None):
    """Puts the tables between the marks of `target`, or at its end, or into a new file; pictures beside it."""
    folder, target = Path(folder), Path(target)
    if not folder.is_dir():
        print(f"study: '{folder}' is no folder of results")
        return 2
    made, images = page(folder, plan or read(HYPOTHESES), target.stem)
    for file, picture in images.items():
        (target.parent / file).write_text(picture, encoding="utf-8")
    before = target.read_text(encoding="utf-8") if target.exists() else ""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END) + "\n?", re.S)
    if pattern.search(before):
        made = pattern.sub(lambda _: made, before, count=1)
    elif before:
        made = before.rstrip("\n") + "\n\n" + made
    target.write_text(made, encoding="utf-8")
    return 0
