"""The tables of a folder of results, between marks of a page. Every figure comes from the kept files."""
import hashlib
import re
from pathlib import Path
from statistics import fmean

from studying import claims, pictures, tables_second
from studying.inference import bootstrap_interval, flip_p, interval_over_seeds, sums_by_cluster, verdicts
from studying.kept import Kept
from studying.markdown import spread, table
from studying.plan import HYPOTHESES, read

BEGIN, END = "<!-- scripts/study: what follows is generated -->", "<!-- scripts/study: end -->"


def seeds_of(policies, name):
    """{seed: policy} of `name SEED`."""
    return {match[1]: policy for policy in policies if (match := re.fullmatch(re.escape(name) + r" (\d+)", policy))}


def choices(kept, task):
    """{rule: {seed: label}}: which expert, or the base, each rule chose before the test split was read."""
    return (kept.report("sealed") or {}).get("choices", {}).get(task, {})


def test_of(kept, hypothesis, plan):
    """One primary hypothesis on its items, or None where they are not there yet."""
    task = hypothesis["task"]
    items, chosen = kept.items(f"sealed/primary-{task}"), choices(kept, task)
    if not items or not chosen:
        return None
    differences, by_seed = [], []
    for seed, label in sorted(chosen[hypothesis["against"]].items(), key=lambda pair: int(pair[0])):
        first, second = ([float(item["replies"][policy]["right"]) for item in items]
                         for policy in (f"{hypothesis['method']} {seed}", f"{label} {seed}"))
        differences.append([a - b for a, b in zip(first, second)])
        by_seed.append((fmean(first), fmean(second), label))
    sums, counts = sums_by_cluster(differences, [item["cluster"] or str(item["item"]) for item in items])
    low, high = bootstrap_interval(sums, counts, plan["resamples"])
    return {"name": hypothesis["name"], "task": task, "by_seed": by_seed, "mean": float(sums.mean(axis=0).sum() / counts.sum()),
            "low": low, "high": high, "p": flip_p(sums, plan["flips"]), "items": len(items), "clusters": len(counts),
            "over_seeds": interval_over_seeds([fmean(row) for row in differences]),
            "disagree": fmean(fmean(abs(one) for one in row) for row in differences)}


def primary(found, plan):
    """found: what test_of() gave."""
    if not found:
        return ["The test split has not been read."]
    given = {one["task"]: one for one in plan["smallest_difference"]["table"]}
    lines = ["### The five hypotheses", "", "The few-shot search against the one expert that is best on the same shots, test split, "
             f"{found[0]['items']} items, {len(found[0]['by_seed'])} seeds; what can be found is the smallest difference at 80 % power, "
             "said beforehand. p is over items, given these seeds; the last interval but one is over the seeds alone, by Student's t.", ""]
    rows, (adjusted, said) = [], verdicts(found, plan["verdict"]["p_at_most"])
    for one, p, words in zip(found, adjusted, said):
        seeds = ", ".join(f"{a:.3f} / {b:.3f} ({label})" for a, b, label in one["by_seed"])
        over = one["over_seeds"]
        rows.append([one["name"], one["task"], f"{one['mean']:+.3f}", f"{one['low']:+.3f} to {one['high']:+.3f}", f"{one['p']:.2g}",
                     f"{p:.2g}", f"**{words}**", given[one["task"]]["first_step"], f"{one['disagree']:.2f}",
                     f"{over[0]:+.3f} to {over[1]:+.3f}" if over else "-", seeds])
    lines += table(["", "task", "difference", "95 % interval", "p", "p (Holm)", "the search is", "smallest found", "disagree",
                    "over seeds alone", "each seed: search / single"], rows)
    lines[2:2] = [f"Of {len(found)} unseen tasks the few-shot search is better than the best single expert on {said.count('better')}, "
                  f"worse on {said.count('worse')}, and not distinguishable from it on {said.count('not distinguishable')}.", ""]
    if len(found) < len(plan["primary"]):
        lines += ["", f"Of {len(plan['primary'])} hypotheses {len(found)} have been measured: Holm's p is not final."]
    return lines


BEST_SINGLE = "best_single_on_shots"
AGAINST = [("base", "the base"), (BEST_SINGLE, "best single on the shots"), ("uniform", "uniform mixture"),
           ("random_pool", "the same search over random z"), ("new_z", "a new z on the shots"), ("oracle", "the oracle")]


def policy_of(kept, method, task, seed):
    """The name in sealed/all-TASK of what a method chose for a seed."""
    if method == "base":
        return "base"
    label = choices(kept, task).get(method, {}).get(seed, method)
    return "base" if label == "base" else f"{label} {seed}"


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


def counted(kept, tasks):
    """How many items the exploratory figures are of."""
    counts = sorted({len(items) for task in tasks if (items := kept.items(f"sealed/all-{task}"))})
    return " to ".join(str(one) for one in {counts[0]: 0, counts[-1]: 0}) if counts else "no"


def against(kept, found, tasks):
    """Exploratory: the search beside everything that it should be better than. found: {words: a difference of each task}."""
    rows = [[words, *("-" if one is None else f"{one[0]:+.3f} ({one[1]:+.3f} to {one[2]:+.3f})" for one in of_tasks)]
            for words, of_tasks in found.items()]
    return ["### The search against others, exploratory", "", "Difference in accuracy of the few-shot search on the first "
            f"{counted(kept, tasks)} test items, with its 95 % interval over seeds and clusters, not corrected for their number. What it "
            "gains over random z is what trained experts are worth to it, format included: random z have learnt neither.", "",
            *table(["few-shot search less", *tasks], rows)] if rows else []


def picture_of(kept, tested, found, tasks):
    """All of it at a glance: the hypotheses in bold, the exploratory differences beside them."""
    groups = []
    for place, task in enumerate(tasks):
        ones = [pictures.Difference("best single expert on the shots", one["mean"], one["low"], one["high"], True)
                for one in tested if one["task"] == task]
        ones += [pictures.Difference(words, *of_tasks[place]) for words, of_tasks in found.items() if of_tasks[place]]
        if ones:
            groups.append((task, ones))
    said = f"bold: a hypothesis, {tested[0]['items']} items; " if tested else ""
    return pictures.differences(groups, f"{said}others: exploratory, {counted(kept, tasks)} items") if groups else None


METHODS = [("base", "the base"), ("numbers", "expert numbers"), ("arithmetic", "expert arithmetic"), ("sentiment", "expert sentiment"),
           ("letters", "expert letters"), (BEST_SINGLE, "best single on the shots"), ("top_1", "largest share alone (hard top-1; the base where none has any)"),
           ("oracle", "best single on validation items of the task itself (an oracle)"), ("uniform", "uniform mixture"),
           ("few_shot", "few-shot search"), ("random_pool", "the same search over random z of equal norms"),
           ("new_z", "a new z on the shots"), ("prompt", "prompt"), ("classifier", "classifier")]


ROUTED = ("prompt", "classifier")


def policies_of(kept, method, task, policies):
    """Of those in sealed/all-TASK, what a method is called for each seed."""
    if method == "base":
        return ["base"]
    chosen = choices(kept, task).get(method)
    named = [policy_of(kept, method, task, seed) for seed in chosen] if chosen else seeds_of(policies, method).values()
    return [policy for policy in named if policy in policies]


def routed(kept, task):
    """({strategy: [accuracy of each seed]}, [the base's on the same items])."""
    found, base = {}, []
    for strategy in ROUTED:
        for name in kept.names("sealed"):
            if re.search(rf"/{strategy}-\d+$", name):
                measured = kept.accuracies(name)
                found.setdefault(strategy, []).extend(by[task] for policy, by in measured.items() if strategy in policy and task in by)
                base += [measured["base"][task]] if not base and task in measured["base"] else []
    return found, base


def methods(kept, tasks):
    measured, routes = {task: kept.accuracies(f"sealed/all-{task}") for task in tasks}, {task: routed(kept, task) for task in tasks}
    rows = []
    for method, words in METHODS:
        cells = [spread(routes[task][0].get(method, []) if method in ROUTED else
                        [measured[task][policy][task] for policy in policies_of(kept, method, task, measured[task])] if measured[task] else [])
                 for task in tasks]
        if any(cell != "-" for cell in cells):
            rows.append([words, *cells])
    if not rows:
        return []
    if any(base for _, base in routes.values()):
        rows.append(["the base on the fewer items of these two", *(spread(routes[task][1]) for task in tasks)])
    return ["### All methods, exploratory", "", f"Accuracy on the first {counted(kept, tasks)} items of each test split, of prompt and "
            "classifier on fewer: mean over seeds, and each seed. Chosen after the hypotheses and not corrected for their number.", "",
            *table(["", *tasks], rows)]


def chosen_by(kept, method, task):
    """{seed: its name in sealed/all-TASK} of a method."""
    items = kept.items(f"sealed/all-{task}")
    return {seed: policy_of(kept, method, task, seed) for seed in sorted(seeds_of(items[0]["replies"], "few_shot"))} if items else {}


def ends(kept, tasks):
    """What of a method's accuracy is that its replies end."""
    rows, items = [], {task: kept.items(f"sealed/all-{task}") for task in tasks}
    for method, words in METHODS:
        cells = []
        for task in tasks:
            names = policies_of(kept, method, task, items[task][0]["replies"]) if items[task] else []
            replies = [item["replies"][name] for item in items[task] for name in names]
            ended = [reply for reply in replies if reply["ended"]]
            right = f"{fmean(bool(reply['right']) for reply in ended):.2f}" if ended else "-"
            cells.append(f"{len(ended) / len(replies):.2f}, {right}" if replies else "-")
        if any(cell != "-" for cell in cells):
            rows.append([words, *cells])
    return ["### Replies that end, exploratory", "", "Share of the replies that end within the limit, and how many of those are right: "
            "the same items, all seeds together. A gain in the first alone is format.", "", *table(["", *tasks], rows)] if rows else []


def costs(kept):
    spent, programs = kept.block_minutes(), kept.programs()
    return ["### What it cost", "", f"Of {len(programs)} build{'s' if len(programs) != 1 else ''} of svfleet, on a machine that had other work "
            "at times: seconds tell orders of magnitude.", "",
            *table(["block", "minutes"], [[name, f"{time:.1f}"] for name, time in spent.items()])] if spent else []


def sealed(kept, used):
    """used: SHA-256 of the hypotheses that the tables are made with."""
    note = kept.report("sealed")
    if not note:
        return []
    other = "" if note["hypotheses"] == used else " These tables were made with **other** hypotheses."
    return [f"The test split was opened on {note['opened']}, hypotheses {note['hypotheses'][:12]} of commit {note['committed'][:12]}, "
            f"{len(note['experts'])} experts; what each rule chose was on record before.{other}"]


def page(folder, plan, name):
    """(lines, {file: picture}) of a page that is called `name`."""
    kept = Kept(Path(folder))
    tasks = [one["task"] for one in plan["primary"]]
    tested = [one for one in (test_of(kept, h, plan) for h in plan["primary"]) if one]
    found = {words: [difference(kept, task, other, plan) for task in tasks] for other, words in AGAINST
             if not (tested and other == BEST_SINGLE)}  # which has more items above
    found = {words: of_tasks for words, of_tasks in found.items() if any(of_tasks)}
    shown, made = {}, {"differences": (picture_of(kept, tested, found, tasks), "What the few-shot search gains over others, with 95 % intervals"),
                       "curves": (tables_second.curves(kept), "Accuracy of the replies in training, each seed and their mean")}
    for kind, (picture, words) in made.items():
        if picture:
            shown[kind] = (f"{name}-{kind}.svg", picture, [f"![{words}]({name}-{kind}.svg)"])
    image = lambda kind: shown[kind][2] if kind in shown else []
    parts = [claims.section(kept, tested, plan, lambda method, task: chosen_by(kept, method, task)),
             primary(tested, plan), image("differences"), sealed(kept, hashlib.sha256(HYPOTHESES.read_bytes()).hexdigest()),
             against(kept, found, tasks), methods(kept, tasks), ends(kept, tasks), tables_second.training(kept), image("curves"),
             *tables_second.all_tables(kept), costs(kept)]
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
