"""The test split: read once, after everything that is measured on it stands fixed, and on the record."""
import hashlib
import json
import subprocess
from datetime import datetime, timezone

from studying import searches
from studying.lab import load, put
from studying.plan import HYPOTHESES, ROOT, shown


def primary(lab, task):
    """{policy: file}: the two methods of the hypotheses, each seed."""
    found = {}
    for seed in lab.plan.seeds:
        files = {label: file for label, _, file in searches.members(lab, seed)}
        found[f"few_shot {seed}"] = searches.few_shot(lab, task, seed)[1]
        found[f"{searches.best_on_shots(lab, task, seed)} {seed}"] = files[searches.best_on_shots(lab, task, seed)]
    return found


def exploratory(lab, task):
    found = {}
    for seed in lab.plan.seeds:
        for label, _, file in searches.members(lab, seed):
            found[f"{label} {seed}"] = file
        found[f"few_shot {seed}"] = searches.few_shot(lab, task, seed)[1]
        found[f"uniform {seed}"] = searches.uniform(lab, seed)
        found[f"random_pool {seed}"] = searches.random_search(lab, task, seed)[1]
        found[f"new_z {seed}"] = searches.new_z(lab, task, seed)
    return found


def choices(lab, task):
    """Which expert each rule chose, by seed: what the tables call by the rule's name."""
    rules = {"best_single_on_shots": searches.best_on_shots, "top_1": searches.largest_share, "oracle": searches.oracle}
    return {rule: {str(seed): choose(lab, task, seed) for seed in lab.plan.seeds} for rule, choose in rules.items()}


def committed(plan):
    """The commit that the hypotheses as they are stand in; Stopped, in one line, where they stand in none."""
    if plan.tiny:
        return "none: a toy"
    git = ["git", "-C", str(ROOT)]
    name = shown(HYPOTHESES)
    if subprocess.run([*git, "diff", "--quiet", "HEAD", "--", name]).returncode:
        raise SystemExit(f"study: '{name}' differs from the last commit; commit it before the test split is read")
    return subprocess.run([*git, "log", "-1", "--format=%H", "--", name], capture_output=True, text=True).stdout.strip()


def open_seal(lab, measured):
    """Notes, before the first item is read, what is going to be read and by which hypotheses. A second reading
    by other hypotheses or of other experts is refused."""
    path = lab.results / "sealed.json"
    note = {"hypotheses": hashlib.sha256(HYPOTHESES.read_bytes()).hexdigest(),
            "committed": committed(lab.plan), "measured": measured}
    if path.exists():
        before = load(path)
        if any(before[key] != note[key] for key in ("hypotheses", "measured")):
            raise SystemExit(f"study: the test split was read on {before['opened']}, by other hypotheses or of other experts "
                             f"('{shown(path)}'); it is not read a second time")
    else:
        note["opened"] = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        put(path, (json.dumps(note, indent=1, sort_keys=True) + "\n").encode())
    lab.sealed = False


def read_once(lab):
    plan = lab.plan
    tasks = {task: (primary(lab, task), exploratory(lab, task), choices(lab, task)) for task in plan["unseen"]}
    if not lab.dry:
        experts = {file for first, second, _ in tasks.values() for file in [*first.values(), *second.values()]}
        hashes = lab.once("sealed/experts", lambda: {file: lab.hash_of(file) for file in sorted(experts)})
        hashes.pop("took_s", None)
        open_seal(lab, hashes)
    for task, (first, second, chosen) in tasks.items():
        lab.once(f"sealed/choices-{task}", lambda chosen=chosen: chosen)
        lab.measure(f"sealed/primary-{task}", [task], first, plan.hypotheses["items"], split="test")
        lab.measure(f"sealed/all-{task}", [task], second, plan["exploratory_items"], split="test")
    for seed in plan.seeds:
        for strategy in ("prompt", "classifier"):
            lab.measure(f"sealed/{strategy}-{seed}", plan["unseen"], {}, plan["routed_items"], "--experts",
                        searches.expert_set(lab, seed), "--strategy", strategy, split="test",
                        known={label: file for label, _, file in searches.members(lab, seed)})
