"""The test split: read once, after everything that is measured on it stands fixed, and on the record."""
import hashlib
import json
import subprocess
from datetime import datetime, timezone

from studying import searches
from studying.files import read_tensors
from studying.lab import load, put
from studying.plan import HYPOTHESES, ROOT, STUDY, read, shown


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
    git, names = ["git", "-C", str(ROOT)], [shown(HYPOTHESES), shown(STUDY / "plan.yaml")]
    for name in names:
        if subprocess.run([*git, "diff", "--quiet", "HEAD", "--", name]).returncode:
            raise SystemExit(f"study: '{name}' differs from the last commit; commit it before the test split is read")
    return subprocess.run([*git, "log", "-1", "--format=%H", "--", names[0]], capture_output=True, text=True).stdout.strip()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def numbers_of(file):
    """A hash of an expert's tensors, whatever its metadata say."""
    _, tensors = read_tensors(ROOT / file)
    return sha256(b"".join(repr((name, kind, shape)).encode() + data for name, (kind, shape, data) in sorted(tensors.items())))


def test_data(lab, task):
    file = lab.plan.task(task)
    return sha256(((ROOT / file).parent / read(ROOT / file)["test"]).read_bytes())


def open_seal(lab, what):
    """Notes, before the first item is read, what is going to be read and by which hypotheses. A later reading
    of anything else is refused."""
    path = lab.results / "sealed.json"
    note = {"hypotheses": sha256(HYPOTHESES.read_bytes()), "plan": lab.plan.hash(), **what}
    if path.exists():
        before = load(path)
        if changed := [key for key in note if before.get(key) != note[key]]:
            raise SystemExit(f"study: the test split was read on {before['opened']}, and since then {' and '.join(changed)} "
                             f"changed ('{shown(path)}'); it is not read a second time")
    else:
        note.update(opened=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), committed=committed(lab.plan),
                    program=lab.program)
        put(path, (json.dumps(note, indent=1, sort_keys=True) + "\n").encode())
    lab.sealed = False


def read_once(lab):
    plan = lab.plan
    tasks = {task: (primary(lab, task), exploratory(lab, task), choices(lab, task)) for task in plan["unseen"]}
    if not lab.dry:
        files = {file for first, second, _ in tasks.values() for file in [*first.values(), *second.values()]}
        files |= {searches.classifier(lab, seed) for seed in plan.seeds}
        open_seal(lab, {"experts": {file: numbers_of(file) for file in sorted(files)},
                        "choices": {task: chosen for task, (_, _, chosen) in tasks.items()},
                        "test data": {task: test_data(lab, task) for task in tasks}})
    for task, (first, second, _) in tasks.items():
        lab.measure(f"sealed/primary-{task}", [task], first, plan.hypotheses["items"], split="test")
        lab.measure(f"sealed/all-{task}", [task], second, plan["exploratory_items"], split="test")
    for seed in plan.seeds:
        for strategy in ("prompt", "classifier"):
            lab.measure(f"sealed/{strategy}-{seed}", plan["unseen"], {}, plan["routed_items"], "--experts",
                        searches.expert_set(lab, seed), "--strategy", strategy, split="test",
                        known={label: file for label, _, file in searches.members(lab, seed)})
