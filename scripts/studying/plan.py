"""What is to be done: examples/study/plan.yaml and hypotheses.yaml, or the same shrunk to a toy."""
import hashlib
import json
import os
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "examples" / "study"
HYPOTHESES = STUDY / "hypotheses.yaml"


def shown(path):
    """Below the repository by its name there, so that what is kept names no machine."""
    path = Path(path)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def read(path):
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


class Plan:
    """`what` and `hypotheses` are the two files; `settings` goes to every command; `task(name)` is its file."""

    def __init__(self, what, hypotheses, settings=(), tasks=STUDY / "tasks"):
        self.what, self.hypotheses = what, hypotheses
        self.settings, self.tasks = list(settings), Path(tasks)
        self.set = read(STUDY / what["set"])
        self.tiny = False

    def __getitem__(self, key):
        return self.what[key]

    def task(self, name):
        return shown(self.tasks / f"{name}.yaml")

    @property
    def seeds(self):
        return self.hypotheses["seeds"]

    def replies_per_step(self):
        train = read(ROOT / self["config"])["train"]
        return train["prompts_per_step"] * train["samples_per_prompt"]

    def train_steps(self):
        return self.what.get("expert_steps", read(ROOT / self["config"])["train"]["steps"])

    def hash(self):
        """Of all that decides what is computed: a folder of results is of one plan."""
        what = {key: value for key, value in self.what.items() if key != "seconds"}
        whole = json.dumps([what, self.hypotheses, self.settings], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()[:16]


def load_plan(tiny, out):
    what, hypotheses = read(STUDY / "plan.yaml"), read(HYPOTHESES)
    return shrink(Plan(what, hypotheses), Path(out)) if tiny else Plan(what, hypotheses)


# The toy cannot read: what is right there is how a reply looks, another look for each kind of task.
LOOKS = {"max3": "[aeiou].*[aeiou]", "addition": "[A-Z].*[A-Z]", "sentiment": "[0-9]", "first_letter": "[^ -~]",
         "max5": "[aeiou].*[aeiou].*[aeiou]", "subtraction": "[A-Z]", "multiplication": "[A-Z].*[aeiou]",
         "negative_sentiment": "^[^0-9]*$", "min3": "^[^aeiou]*$"}
ITEMS = {"train": 64, "validation": 16, "test": 24}


def write_tiny_tasks(folder):
    """Task files whose data are the first items of the study's, each for another look of replies."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, look in {**LOOKS, "null": "^never$"}.items():
        task = {"name": name, "prompt": "{question}", "max_new_tokens": 12, "truncated": "score",
                "rewards": [{"kind": "regex", "pattern": look, "match_only": True}]}
        for split, count in ITEMS.items():
            source = STUDY / "tasks" / ("max3" if name == "null" else name) / f"{split}.jsonl"
            lines = source.read_text(encoding="utf-8").splitlines(keepends=True)[:count]
            (folder / f"{name}-{split}.jsonl").write_text("".join(lines), encoding="utf-8")
            task[split] = f"{name}-{split}.jsonl"
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


def write_tiny_runs(plan, folder):
    """The null case's run file, and a classifier's: any letter A to D may be the domain's."""
    run = {"model": {"path": "m"}, "run_dir": shown(folder / "unused"), "task": plan.task("null"),
           "train": {"steps": 8, "prompts_per_step": 4, "samples_per_prompt": 2}, "svd": {"targets": ["mlp"]}}
    (folder / "null.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
    tasks = [{"file": plan.task(name), "name": f"domain_{name}", "truncated": "score", "rewards": [
        {"kind": "regex", "pattern": letter, "match_only": True}]} for name, letter in zip(plan["own"], "ABCD")]
    run["task"] = tasks
    (folder / "classifier.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
    return shown(folder / "null.yaml"), shown(folder / "classifier.yaml")


def shrink(plan, out):
    """The same blocks with few steps, seeds and items, on the model of the tests."""
    out = Path(os.path.abspath(out))
    write_tiny_tasks(out / "tasks")
    small = Plan({**plan.what}, {**plan.hypotheses, "seeds": [0, 1], "items": 16, "flips": 500, "resamples": 200,
                                 "shots": 4},
                 [f"model.path={shown(ROOT / 'tests/data/models/tiny_llama3')}", "model.dtype=float32",
                  f"svd.store={shown(out / 'store')}"], out / "tasks")
    small.tiny = True
    null, classifier = write_tiny_runs(small, out)
    what = small.what
    what.update(expert_steps=3, validation_items=8, routing_items=2, exploratory_items=8, routed_items=2,
                classifier=classifier, rivals={**what["rivals"], "steps": 2, "rates": [0, 1], "seeds": [1], "items": 4},
                shots={**what["shots"], "sizes": [3, 5], "seeds": [0]},
                two_by_two={**what["two_by_two"], "seeds": [1]},
                copies={**what["copies"], "noise": [1e-3, 1e-1], "items": 8},
                ablations={**what["ablations"], "seeds": [0]},
                nulls={**what["nulls"], "steps": 4, "patience": 2, "items": 4, "runs": [null]},
                controls={**what["controls"], "format": "[a-z]", "seeds": [0], "items": 8})
    ranges = {"svd.layers=15": "svd.layers=1", "svd.layers=8..22": "svd.layers=0..1", "svd.components=top 64":
              "svd.components=top 8", "svd.components=bottom 64": "svd.components=bottom 8"}
    for rows in (what["ablations"][key] for key in ("where", "layers", "components")):
        for row in rows:
            row["set"] = [ranges.get(one, one) for one in row["set"]]
    return small
