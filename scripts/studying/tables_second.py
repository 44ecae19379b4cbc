"""The tables of the blocks that claim nothing: controls, routing, rivals, ablations, copies, null cases."""
import re

from studying import pictures
from studying.markdown import number, spread, table


def groups(kept, block, pattern):
    """{what the first group of the pattern says: [results' names]} of a block, in order of names."""
    found = {}
    for name in kept.names(block):
        if match := re.fullmatch(f"{block}/{pattern}", name):
            found.setdefault(match[1], []).append(name)
    return found


def accuracy(kept, name, policy, task=None):
    by = kept.accuracies(name).get(policy, {})
    return by.get(task) if task else next(iter(by.values()), None)


def expert_runs(kept):
    """{task, or classifier: [what is kept of a run, by seed]}"""
    return {task: [kept.report(name) for name in sorted(names, key=lambda name: int(name.rsplit("-", 1)[1]))]
            for task, names in groups(kept, "experts", r"(\w+)-\d+").items()}


def curves(kept):
    panels = [(task, [run["cost"]["accuracy"] for run in runs]) for task, runs in expert_runs(kept).items()]
    return pictures.curves(panels) if panels else None


def training(kept):
    """How the replies of a run's first and last steps fared: sampled, on training items."""
    few, rows = 3, []
    for task, runs in expert_runs(kept).items():
        part = lambda choose: spread([sum(values) / len(values) for run in runs if (values := choose(run["cost"]["accuracy"]))])
        rows.append([task, runs[0]["cost"]["steps"], part(lambda all_of: all_of[:few]), part(lambda all_of: all_of[-few:]),
                     round(sum(run["cost"]["tokens"] for run in runs) / len(runs))])
    return ["### Experts in training", "", f"Accuracy of the replies that training itself sampled, in the first {few} steps and the last {few}.",
            "", *table(["", "steps", "first", "last", "tokens sampled"], rows)] if rows else []


def singles(kept):
    """Each expert alone on the unseen tasks."""
    found = [kept.accuracies(name) for name in kept.names("validation")]
    if not found:
        return []
    tasks = sorted(found[0]["base"])
    rows = [[policy, *(spread([by[policy][task] for by in found][:1 if policy == "base" else None]) for task in tasks)]
            for policy in sorted(found[0], key=lambda policy: policy != "base")]
    return ["### Single experts on the unseen tasks", "", "Validation split.", "", *table(["", *tasks], rows)]


def controls(kept):
    rows = []
    for name in kept.names("controls"):
        task, found = name.split("/")[1], kept.accuracies(name)
        if "base" not in found or task == "trained":
            continue
        kinds = {"": [], " shuffled": [], " mirrored": []}
        for policy, by in found.items():
            for kind in kinds:
                if re.fullmatch(rf"{task}-\d+{kind}", policy):
                    kinds[kind].append(by[task])
        rows.append([task, number(found["base"][task]), *map(spread, kinds.values())])
    trained = kept.accuracies("controls/trained")
    trained_on = next((task for by in trained.values() for task in by), "")
    for kind in ("random", "format"):
        values = [next(iter(by.values())) for policy, by in trained.items() if policy.startswith(f"{kind}-")]
        if values:
            rows.append([f"{trained_on}, trained for {'random rewards' if kind == 'random' else 'format alone'}",
                         number(next(iter(trained["base"].values()))), spread(values), "-", "-"])
    return ["### Experts on their own tasks", "", "Validation split. Where the format alone was rewarded, that is what "
            "training without any skill comes to; how much of a gain is format, the table of replies that end tells.", "",
            *table(["", "base", "experts", "z shuffled", "z mirrored"], rows)] if rows else []


def routing(kept):
    lines = []
    for name in kept.names("routing"):
        found = kept.report(name)["adaptation"]["routing"]
        bag = found["bag_of_words"]
        lines += ["", f"{name.split('/')[1]}: {found['accuracy']:.3f} of {found['n']} prompts came to the right expert; majority class "
                  f"{found['majority']:.3f}, bag of words {'not measured' if bag is None else f'{bag:.3f}'}.", "",
                  *table(["whose / answered by", *found["labels"]], [[label, *row] for label, row in zip(found["labels"], found["confusion"])])]
    return ["### Who answers what", *lines] if lines else []


def search_costs(kept):
    rows = []
    for kind in ("few_shot", "random"):
        reports = [kept.report(name)["adaptation"] for name in kept.names("searches") if name.startswith(f"searches/{kind}-")]
        if reports:
            mean = lambda values: sum(values) / len(reports)
            rows.append([kind, len(reports), f"{mean([r['search']['generations'] for r in reports]):.1f}",
                         f"{mean([r['search']['candidates'] for r in reports]):.0f}",
                         f"{mean([r['first_pass']['tokens_written'] for r in reports]):.0f}",
                         f"{mean([r['first_pass']['seconds'] for r in reports]):.1f}",
                         number(mean([r["search"]["base"]["score"] for r in reports])),
                         number(mean([r["search"]["mixture"]["score"] for r in reports]))])
    new_z = [kept.report(name)["cost"] for name in kept.names("searches") if name.startswith("searches/new_z-")]
    if new_z:
        mean = lambda key: sum(one[key] for one in new_z) / len(new_z)
        rows.append(["a new z on the shots", len(new_z), "-", "-", f"{mean('tokens'):.0f}", f"{mean('seconds'):.1f}", "-", "-"])
    return ["### What a search costs, means", "", *table(["pool", "searches", "generations", "mixtures", "tokens written", "seconds",
                                                         "base on shots", "mixture on shots"], rows)] if rows else []


def mixtures(kept):
    """What each search found: the base, one expert, or a true mixture."""
    rows, kinds = [], {"the base": 0, "one expert alone": 0, "a mixture": 0}
    for name in kept.names("searches"):
        if match := re.fullmatch(r"searches/few_shot-(\w+)-(\d+)", name):
            found = kept.report(name)["adaptation"]["search"]
            shares = {one["label"]: one["share"] for one in found["experts"]}
            some = [share for share in shares.values() if share]
            alone = len(some) == 1 and abs(found["base_share"]) < 1e-9
            kinds["a mixture" if some and not alone else "one expert alone" if alone else "the base"] += 1
            best = max(one["alone"]["score"] for one in found["experts"])
            rows.append([match[1], match[2], *(f"{share:.2f}" for share in shares.values()), f"{found['base_share']:.2f}",
                         number(found["base"]["score"]), number(best), number(found["mixture"]["score"])])
            labels = list(shares)
    return ["### What the searches found", "", "Shares of each few-shot search. " +
            ", ".join(f"{count} of {len(rows)} are {kind}" for kind, count in kinds.items()) + ".", "",
            *table(["task", "seed", *labels, "base", "score on the shots: base", "best single", "mixture"], rows)] if rows else []


def trained_rows(kept, block, pattern):
    """[name, runs, own accuracy, unseen accuracy, tokens, seconds] by what the pattern's first group says."""
    rows = []
    for core, names in groups(kept, block, pattern).items():
        own, unseen, cost = [], [], []
        for name in names:
            measured = kept.accuracies(f"{name}-validation").get("expert")
            if measured:
                values = list(measured.values())
                own.append(values[0])
                unseen.append(sum(values[1:]) / len(values[1:]) if values[1:] else None)
                cost.append(kept.report(name))
        if cost:
            rate = next((s.split("=")[1] for s in cost[0]["settings"] if s.startswith("train.learning_rate=")), "")
            rows.append([core, rate, spread(own), spread(unseen), round(sum(c["cost"]["tokens"] for c in cost) / len(cost)),
                         f"{sum(c['cost']['seconds'] for c in cost) / len(cost):.1f}"])
    return rows


COLUMNS = ["", "learning rate", "own task", "unseen tasks, mean", "tokens sampled", "seconds"]


def rivals(kept):
    rows = trained_rows(kept, "rivals", r"(\w+?)-\d+")
    tried = []
    for core, names in groups(kept, "rivals", r"(\w+?)-rate-?\d+").items():
        ordered = sorted(names, key=lambda name: int(re.search(r"rate(-?\d+)$", name)[1]))
        cells = []
        for name in ordered:
            rate = next(s.split("=")[1] for s in kept.report(name)["settings"] if s.startswith("train.learning_rate="))
            cells.append(f"{rate}: {number(accuracy(kept, f'{name}-validation', 'expert'))}")
        tried.append([core, ", ".join(cells)])
    if not tried:
        return []
    seeds = [name for name in kept.names("rivals") if re.fullmatch(r"rivals/\w+-\d+", name)]
    if base := kept.accuracies(f"{seeds[0]}-validation").get("base") if seeds else None:
        own, *unseen = base.values()
        rows.append(["the base", "-", number(own), number(sum(unseen) / len(unseen)) if unseen else "-", "-", "-"])
    return ["### Cores and rivals", "", "Equal replies for each; validation split, which also chose the learning rates (seed 0).", "",
            *table(COLUMNS, rows), "", *table(["", "learning rate: accuracy, one seed"], tried)]


def two_by_two(kept):
    next_token = trained_rows(kept, "two_by_two", r"(\w+?)-\d+")
    cores = [row[0] for row in next_token]
    rows = [[f"{row[0]}, policy gradient", *row[1:]] for row in trained_rows(kept, "rivals", r"(\w+?)-\d+") if row[0] in cores]
    rows += [[f"{row[0]}, next token", *row[1:]] for row in next_token]
    return ["### SVF and LoRA, policy gradient and next tokens", "", *table(COLUMNS, sorted(rows))] if next_token else []


def shots(kept):
    rows = []
    for count, names in sorted(groups(kept, "shots", r"(\d+)-\d+").items(), key=lambda pair: int(pair[0])):
        bases = [accuracy(kept, name, "base") for name in names]
        rows.append([count, number(bases[0]), spread([accuracy(kept, name, "few_shot") for name in names])])
    return ["### Number of shots", "", *table(["shots", "base", "few-shot search"], rows)] if rows else []


def ablations(kept):
    lines = []
    for kind, words in (("where", "Which matrices"), ("layers", "Which layers"), ("components", "Which components")):
        rows = []
        for name, runs in groups(kept, "ablations", rf"{kind}-(.+?)-\d+").items():
            changes = [kept.report(f"{run}-change") for run in runs]
            own = spread([accuracy(kept, f"{run}-validation", "expert") for run in runs])
            if own == "-":  # trained and not measured yet
                continue
            rows.append([name.replace("_", " "), own,
                         ", ".join(f"{one['change']:.2e}" for one in changes if one) or "-"])
        if rows:
            lines += ["", f"{words}:", "", *table(["", "own task", "change of the weights, Frobenius"], rows)]
    return ["### Ablations", *lines] if lines else []


def copies(kept):
    rows = []
    for name in sorted(kept.names("copies"), key=lambda n: (n.split("/")[1].startswith("d"), n)):
        found = kept.accuracies(name)
        if found:
            rows.append([name.split("/")[1], *(number(accuracy(kept, name, policy)) for policy in
                                               ("base", "transferred", "shuffled", "reversed"))])
    rows.sort(key=lambda row: float(row[0]))
    return ["### Transfer to perturbed copies of the model", "", "Noise as a share of each matrix's root mean square; 0 is the model itself.",
            "", *table(["noise", "the copy alone", "expert", "z shuffled", "z reversed"], rows)] if rows else []


def nulls(kept):
    rows = []
    for name in kept.names("nulls"):
        found, short = kept.report(name), name.split("/")[1]
        if "missing" in found:
            rows.append([short, f"not run: {found['missing']} is not there; see {found['see']}", "-", "-"])
        elif short.endswith("-validation"):
            runs = [kept.report(n) for n in kept.names("nulls") if re.fullmatch(rf"nulls/{short[:-11]}-\d+", n)]
            last = max(runs, key=lambda run: run["cost"]["steps"])
            signal = sum(bool(one) for one in last["cost"]["signal"])
            rows.append([short[:-11], f"{last['cost']['steps']} steps, {signal} with a signal", number(accuracy(kept, name, "base")),
                         number(accuracy(kept, name, "expert"))])
    return ["### Null cases", "", *table(["", "", "base", "expert"], rows)] if rows else []


def all_tables(kept):
    return [make(kept) for make in (controls, singles, routing, mixtures, search_costs, rivals, two_by_two, shots, ablations, copies, nulls)]
